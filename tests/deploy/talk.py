"""A crowd that talks through a deployment's front door, as a program with certificates of its own.

`talk.py URL` reads tokens, one a line, from its first line of JSON; then each line "go" makes
everybody say one thing, and it answers with how many heard everything, once and in one order.
"""

from __future__ import annotations

import asyncio
import json
import sys

from chatlab import ChatClient

PATIENCE_S = 25


async def main() -> None:
    url, tokens = sys.argv[1], json.loads(sys.stdin.readline())
    clients = [
        ChatClient(url, token, retries=20, transports=(("websocket", "polling")[i % 2],))
        for i, token in enumerate(tokens)
    ]
    heard: list[list[str]] = [[] for _ in clients]

    async def listen(client: ChatClient, into: list[str]) -> None:
        async for message in client.messages("general"):
            into.append(message.text)

    for client in clients:
        await client.connect()
        await client.join("general")
    listening = [asyncio.create_task(listen(*pair)) for pair in zip(clients, heard, strict=True)]
    said = 0
    tell({"in": len(clients)})
    while (await asyncio.to_thread(sys.stdin.readline)).strip():
        said += 1
        expected = {f"{number} said {said}" for number in range(len(clients))}
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(
                    *(
                        client.send(f"{number} said {said}", room="general")
                        for number, client in enumerate(clients)
                    )
                )
                while any(not expected <= set(each) for each in heard):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pass
        tell({"orders": len({tuple(each) for each in heard}), "heard": [len(x) for x in heard]})
    for task in listening:
        task.cancel()
    await asyncio.gather(
        *(client.close() for client in clients), *listening, return_exceptions=True
    )


def tell(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
