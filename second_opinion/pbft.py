#!/usr/bin/env python3
"""A second opinion on PBFT: the protocol of OSDI'99, 4.2 to 4.4, once more, and every execution of it in a small world.

It shares nothing with the rest of this repository: it calls, imports and parses none of its code, and was written from the
paper, and from docs/MODEL.md and the pages of `models`, which say what a world is. What it finds is printed in a text format
that docs/SECOND_OPINION.md defines, so that it can be compared, line by line, with what `pbft check` finds.

A world has correct replicas, a network that never forgets, and Byzantine replicas without a state. Whatever a correct
replica has sent, and whatever can be made of that with the keys of Byzantine replicas, may reach any correct replica at any
time, any number of times or never. Timers may fire at any time until the highest view is left for. Every delivery is a
transition of its own; nothing is reduced. The few shortcuts are about representation: equal local states have one number,
a step is taken once for each pair of a local state and a message, and what a replica cannot use any more it does not keep.

    protocol.py    messages, and a step of a correct replica
    adversary.py   what can be made of what was sent
    explore.py     every reachable state, judged
    text.py        histories and messages as text

    python3 second_opinion/pbft.py --n 3 --byzantine 0 --max-view 1 --requests 2 --max-seq 1
"""
import argparse
import json
import sys
import time

from explore import World
from protocol import Bounds
from text import digest


def main():
    parser = argparse.ArgumentParser(description="Every execution of PBFT in a small world: a second opinion.")
    parser.add_argument("--n", type=int, default=4, help="replicas")
    parser.add_argument("--f", type=int, default=1, help="Byzantine replicas that quorums allow for")
    parser.add_argument("--byzantine", default="none", help="their numbers, separated by commas, or none")
    parser.add_argument("--max-view", type=int, default=0, help="the highest view")
    parser.add_argument("--max-seq", type=int, help="the highest sequence number; as many as requests, if not given")
    parser.add_argument("--requests", type=int, default=1, help="clients with one request each")
    parser.add_argument("--checkpoint-interval", type=int, help="a checkpoint at every multiple; never, if not given")
    parser.add_argument("--window", type=int, help="the length of the window; --max-seq, if not given")
    parser.add_argument("--histories", help="write the joint histories to this file, a line each")
    parser.add_argument("--behaviours", help="write them together with what was sent to this file, a line each")
    parser.add_argument("--most", type=int, help="give up beyond this number of states")
    given = parser.parse_args()
    byzantine = frozenset() if given.byzantine == "none" else frozenset(map(int, given.byzantine.split(",")))
    max_seq = given.max_seq or given.requests
    window = given.window or max_seq
    world = World(Bounds(given.n, given.f, byzantine, given.max_view, max_seq, given.requests,
                         given.checkpoint_interval, window))
    began = time.time()
    states = world.explore(given.most)
    seconds = time.time() - began
    histories, behaviours = world.history_lines(), world.behaviour_lines()
    for path, lines in [(given.histories, histories), (given.behaviours, behaviours)]:
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in lines)
    print(json.dumps({
        "states": states, "local_states": [len(place.facts) for place in world.places],
        "messages": len(world.messages.things),
        "behaviours": len(behaviours), "behaviours_digest": digest(behaviours),
        "histories": len(histories), "histories_digest": digest(histories),
        "problems": world.problems[:3], "seconds": round(seconds, 1)}))
    return 1 if world.problems else 0


if __name__ == "__main__":
    sys.exit(main())
