"""A worker beside the chat app: reads and writes its tables, calls its functions, searches its texts, stores files.

    python -m convexorm init --convex examples/app         and the two lines that it says into schema.ts
    python -m convexorm serve examples/app                 says `ready http://127.0.0.1:3210`
    CONVEX_URL=http://127.0.0.1:3210 CONVEX_ADMIN_KEY='local|admin' python examples/app/worker.py

In `examples/app`, `models.py` is what `python -m convexorm reflect --convex . --out models.py` makes of the schema, and
`api.py` what `python -m convexorm api --convex . --models models --out api.py` makes of the functions.
"""

from __future__ import annotations

from datetime import timedelta

from api import Api
from models import Channel, Message, MessageBodyFile, User

from convexorm import Deployment, Session, connect


def work(deployment: Deployment) -> None:
    """Open a channel, say something by the app's functions and past them, put a transcript beside it."""
    api = Api(deployment)
    opened = api.channels.open(
        name="general", members=[{"email": "ada@example.com", "name": "Ada"}, {"email": "bob@example.com", "name": "Bob"}]
    )
    ada, bob = opened.members
    api.messages.send(channel=opened.channel, author=ada, text="the quick brown fox")
    api.messages.announce(channels=[opened.channel], author=bob, text="a lazy dog")
    print("latest:", [message.text for message in api.messages.list(channel=opened.channel, limit=1)])

    with Session(deployment) as session:
        channel = session.get_one(Channel, opened.channel)
        channel.topic = "animals"
        messages = session.all(Message.query().by_index("by_channel", channel=opened.channel))
        transcript = "\n".join(message.text for message in messages).encode()
        file = deployment.files.upload(transcript, "text/plain")
        session.add(
            Message(
                channel=opened.channel,
                author=ada,
                body=MessageBodyFile(kind="file", file=file, size=float(len(transcript))),
                text="a transcript",
            )
        )
        session.schedule("messages:forget", {"days": 365.0}, delay=timedelta(days=1))
        session.commit()
        print("topic:", session.get_one(Channel, opened.channel).topic)
        print("users:", sorted(user.name for user in session.all(User.query().full_scan())))
        print("foxes:", [hit.text for hit in session.search_text(Message.by_text, "fox", limit=5)])
        print("file:", deployment.files.download(file))


if __name__ == "__main__":
    with connect() as opened:
        work(opened)
