"""What a class declares, and what its instances are.

`model` is the base of entities. `declaring` reads a class statement and makes a `mapper` of it, from what the body says
(`fields`, `relations`, `references`) and what the annotations say (`expressions`, the columns). `conversions` and `records`
are the code made for each class: from instances to documents and back. `hooks` and `validation` are methods of the class.
"""
