/**
 * A map in order of its keys that is never changed: changes make another one, which shares what is the same.
 *
 * So a snapshot costs nothing, and a transaction that is given up leaves nothing behind. A B+ tree; an `owner` may change the nodes in
 * place that it has made itself.
 */

const FULL = 64;

interface Leaf<V> {
  owner: object;
  keys: string[];
  values: V[];
  children: undefined;
}
interface Branch<V> {
  owner: object;
  /** The least key of each child, or less. */
  keys: string[];
  children: Node<V>[];
}
type Node<V> = Leaf<V> | Branch<V>;

/** The position of the first key that is not less. */
function place(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The child that a key belongs to. */
function childOf(keys: readonly string[], key: string): number {
  const found = place(keys, key);
  return found < keys.length && keys[found] === key ? found : Math.max(found - 1, 0);
}

export class Tree<V> {
  private constructor(
    readonly root: Node<V>,
    readonly size: number,
  ) {}

  static empty<V>(): Tree<V> {
    return new Tree<V>({ owner: {}, keys: [], values: [], children: undefined }, 0);
  }

  get(key: string): V | undefined {
    let node = this.root;
    while (node.children) node = node.children[childOf(node.keys, key)]!;
    const found = place(node.keys, key);
    return node.keys[found] === key ? node.values[found] : undefined;
  }

  /** The first entry from `lower` on and before `upper`. */
  first(lower: string, upper: string): [string, V] | undefined {
    const found = firstIn(this.root, lower);
    return found && found[0] < upper ? found : undefined;
  }

  /** The last entry from `lower` on and before `upper`. */
  last(lower: string, upper: string): [string, V] | undefined {
    const found = lastIn(this.root, upper);
    return found && found[0] >= lower ? found : undefined;
  }

  set(key: string, value: V, owner: object): Tree<V> {
    const added = { count: 0 };
    const [left, right] = put(this.root, key, value, owner, added);
    const root = right ? { owner, keys: [left.keys[0]!, right.keys[0]!], children: [left, right] } : left;
    return new Tree(root, this.size + added.count);
  }

  delete(key: string, owner: object): Tree<V> {
    let root = remove(this.root, key, owner);
    if (root === undefined) return this;
    while (root.children?.length === 1) root = root.children[0]!;
    if (root.children?.length === 0) root = Tree.empty<V>().root;
    return new Tree(root, this.size - 1);
  }
}

function firstIn<V>(node: Node<V>, key: string): [string, V] | undefined {
  if (!node.children) {
    const found = place(node.keys, key);
    return found < node.keys.length ? [node.keys[found]!, node.values[found]!] : undefined;
  }
  for (let child = childOf(node.keys, key); child < node.children.length; child++) {
    const found = firstIn(node.children[child]!, key);
    if (found) return found;
  }
  return undefined;
}

/** The last entry before a key. */
function lastIn<V>(node: Node<V>, key: string): [string, V] | undefined {
  if (!node.children) {
    const found = place(node.keys, key) - 1;
    return found >= 0 ? [node.keys[found]!, node.values[found]!] : undefined;
  }
  for (let child = childOf(node.keys, key); child >= 0; child--) {
    const found = lastIn(node.children[child]!, key);
    if (found) return found;
  }
  return undefined;
}

const own = <V>(node: Node<V>, owner: object): Node<V> => {
  if (node.owner === owner) return node;
  if (node.children) return { owner, keys: node.keys.slice(), children: node.children.slice() };
  return { owner, keys: node.keys.slice(), values: node.values.slice(), children: undefined };
};

function put<V>(
  old: Node<V>,
  key: string,
  value: V,
  owner: object,
  added: { count: number },
): [Node<V>, Node<V> | undefined] {
  const node = own(old, owner);
  if (!node.children) {
    const at = place(node.keys, key);
    if (node.keys[at] === key) node.values[at] = value;
    else {
      added.count += 1;
      node.keys.splice(at, 0, key);
      node.values.splice(at, 0, value);
    }
    return [node, split(node, owner)];
  }
  const at = childOf(node.keys, key);
  const [left, right] = put(node.children[at]!, key, value, owner, added);
  node.children[at] = left;
  if (key < node.keys[at]!) node.keys[at] = key;
  if (right) {
    node.keys.splice(at + 1, 0, right.keys[0]!);
    node.children.splice(at + 1, 0, right);
  }
  return [node, split(node, owner)];
}

function split<V>(node: Node<V>, owner: object): Node<V> | undefined {
  if (node.keys.length <= FULL) return undefined;
  // Keys mostly come in order, behind all others: what is left behind stays nearly full.
  const at = (FULL * 7) >> 3;
  const keys = node.keys.splice(at);
  if (node.children) return { owner, keys, children: node.children.splice(at) };
  return { owner, keys, values: node.values.splice(at), children: undefined };
}

/** The node without a key, perhaps empty; undefined if it was not there. */
function remove<V>(old: Node<V>, key: string, owner: object): Node<V> | undefined {
  if (!old.children) {
    const at = place(old.keys, key);
    if (old.keys[at] !== key) return undefined;
    const node = own(old, owner) as Leaf<V>;
    node.keys.splice(at, 1);
    node.values.splice(at, 1);
    return node;
  }
  const at = childOf(old.keys, key);
  const child = old.children[at] && remove(old.children[at], key, owner);
  if (child === undefined) return undefined;
  const node = own(old, owner) as Branch<V>;
  if (child.keys.length > 0) node.children[at] = child;
  else {
    node.keys.splice(at, 1);
    node.children.splice(at, 1);
  }
  return node;
}
