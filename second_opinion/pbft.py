#!/usr/bin/env python3
"""A second opinion on PBFT: the protocol of OSDI'99, 4.2 to 4.4, once more, and every execution of it in a small world.

It shares nothing with the rest of this repository: it calls, imports and parses none of its code, and was written from the
paper and from docs/MODEL.md, which says what a world is. What it finds is printed in a text format that
docs/SECOND_OPINION.md defines, so that it can be compared, line by line, with what `pbft check` finds.

A world has correct replicas, a network that never forgets, and Byzantine replicas without a state. Whatever a correct
replica has sent, and whatever can be made of that with the keys of Byzantine replicas, may reach any correct replica at any
time, any number of times or never. Timers may fire at any time until the highest view is left for. Every delivery is a
transition of its own; nothing is reduced. The few shortcuts are about representation: equal local states have one number,
a step is taken once for each pair of a local state and a message, and what a replica cannot use any more it does not keep.

    python3 second_opinion/pbft.py --n 3 --byzantine 0 --max-view 1 --requests 2 --max-seq 1
"""
import argparse
import hashlib
import itertools
import json
import sys
import time
from collections import namedtuple

# Messages are tuples. A batch is a tuple of clients (each has one request), () the null request; it is its own digest.
# A state of the service is the tuple of clients whose requests ran, in order; it is its own digest too.
#   (REQUEST, client)  (BATCH, batch)  (PRE_PREPARE, v, n, batch)  (PREPARE, v, n, batch, i)  (COMMIT, v, n, batch, i)
#   (CHECKPOINT, n, state, i)  (STABLE, n, state): a certificate; what proves it is not kept
#   (VIEW_CHANGE, v, h, state at h, P, i), P a tuple of (n, view, batch): certificates
#   (NEW_VIEW, v, V, i), V a sorted tuple of VIEW-CHANGEs; O follows from it, and every receiver works it out
# BLOCKS stands for whatever carries the state at a checkpoint: (BLOCKS, n, state).
REQUEST, BATCH, PRE_PREPARE, PREPARE, COMMIT = "REQUEST", "BATCH", "PRE-PREPARE", "PREPARE", "COMMIT"
CHECKPOINT, STABLE, VIEW_CHANGE, NEW_VIEW = "CHECKPOINT", "STABLE", "VIEW-CHANGE", "NEW-VIEW"
BLOCKS, TIME_OUT = "BLOCKS", "TIME-OUT"

Bounds = namedtuple("Bounds", "n f byzantine max_view max_seq requests interval window")

# What a correct replica knows and has done. All sets are frozensets, of numbers of messages or of tuples.
Local = namedtuple("Local", [
    "view",        # entered last
    "target",      # the view of the last VIEW-CHANGE sent, or `view`
    "heard",       # clients whose REQUEST has come and not run
    "bodies",      # clients whose request is in the log
    "proposals",   # (n, batch) pre-prepared in `view`
    "prepares",    # (n, batch, i) of `view`, until prepared
    "commits",     # (n, batch, i) of `view`, until committed
    "views",       # (v, i, VIEW-CHANGE) received for views above; its content only if this replica will need it
    "votes",       # (n, state, i) of CHECKPOINTs above h
    "h",           # the last stable checkpoint
    "state",       # of the service
    "executed",    # the last sequence number
    "wanted",      # (n, state) of a stable checkpoint that is to be fetched
    # The history, and what was sent:
    "prepared", "committed", "service", "entered", "taken", "stable", "sent"])
HISTORY = Local._fields.index("prepared")


def quorum(bounds):
    """Any two of this size have a correct replica in common: 2f + 1 of 3f + 1."""
    return (bounds.n + bounds.f) // 2 + 1


def choose_o(view_changes):
    """min-s with the state there, and O: for each number up to max-s the batch of the certificate with the highest view,
    or the null request. OSDI'99 4.4."""
    min_s, state = max((h, state) for _, _, h, state, _, _ in view_changes)
    best = {}
    for _, _, _, _, certificates, _ in view_changes:
        for n, view, batch in certificates:
            if n > min_s and (n not in best or view > best[n][0]):
                best[n] = (view, batch)
    max_s = max(best, default=min_s)
    return min_s, state, tuple((n, best[n][1] if n in best else ()) for n in range(min_s + 1, max_s + 1))


class Replica:
    """One step of a correct replica: OSDI'99 4.2 to 4.4."""

    def __init__(self, world, me, local):
        self.world, self.bounds, self.me = world, world.bounds, me
        self.__dict__.update(local._asdict())

    def local(self):
        return Local._make([getattr(self, field) for field in Local._fields])

    def primary(self, view):
        return view % self.bounds.n

    def is_active(self):
        return self.target == self.view

    def in_window(self, n):
        return self.h < n <= min(self.h + self.bounds.window, self.bounds.max_seq)

    def send(self, *message):
        self.sent |= {self.world.number(message)}

    def take(self, message):
        kind, *fields = message
        handlers = {REQUEST: self.on_request, BATCH: self.on_batch, PRE_PREPARE: self.on_pre_prepare,
                    PREPARE: self.on_prepare, COMMIT: self.on_commit, CHECKPOINT: self.on_checkpoint,
                    STABLE: self.on_stable, VIEW_CHANGE: self.on_view_change, NEW_VIEW: self.on_new_view,
                    BLOCKS: self.on_blocks, TIME_OUT: self.on_time_out}
        handlers[kind](*fields)

    # --- 4.2, the normal case ---

    def on_request(self, client):
        if client not in self.state:
            self.heard |= {client}
            self.bodies |= {client}
            self.propose()
            self.advance()

    def propose(self):
        """The primary gives the requests that it has heard of the next numbers."""
        if self.me != self.primary(self.view) or not self.is_active():
            return
        for client in sorted(self.heard):
            ordered = any(client in batch for _, batch in self.proposals)
            n = max([self.h] + [n for n, _ in self.proposals]) + 1
            if not ordered and self.in_window(n):
                self.proposals |= {(n, (client,))}
                self.send(PRE_PREPARE, self.view, n, (client,))

    def on_batch(self, batch):
        if any(batch == named for _, named in self.proposals):
            self.bodies |= set(batch)
            self.advance()

    def on_pre_prepare(self, view, n, batch):
        fits = view == self.view and self.is_active() and self.in_window(n) and self.me != self.primary(view)
        if not fits or any(n == known for known, _ in self.proposals):
            return
        self.bodies |= set(batch)
        self.pre_prepared(n, batch)
        self.advance()

    def pre_prepared(self, n, batch):
        self.proposals |= {(n, batch)}
        if self.me != self.primary(self.view):
            self.send(PREPARE, self.view, n, batch, self.me)
            self.prepares |= {(n, batch, self.me)}

    def is_prepared(self, n):
        return any((self.view, n) == slot[:2] for slot in self.prepared)

    def is_committed(self, n):
        return any((self.view, n) == slot[:2] for slot in self.committed)

    def on_prepare(self, view, n, batch, sender):
        fits = view == self.view and self.is_active() and self.in_window(n) and sender != self.primary(view)
        if fits and not self.is_prepared(n):
            self.prepares |= {(n, batch, sender)}
            self.advance()

    def on_commit(self, view, n, batch, sender):
        fits = view == self.view and self.is_active() and self.in_window(n)
        if fits and not self.is_committed(n):
            self.commits |= {(n, batch, sender)}
            self.advance()

    def advance(self):
        """Prepares, commits and executes whatever can be."""
        if self.is_active():
            for n, batch in sorted(self.proposals):
                if not self.is_prepared(n) and self.bodies.issuperset(batch):
                    voters = {sender for m, b, sender in self.prepares if (m, b) == (n, batch)}
                    if len(voters) >= quorum(self.bounds) - 1:
                        self.prepared |= {(self.view, n, batch)}
                        self.prepares = frozenset(vote for vote in self.prepares if vote[0] != n)
                        self.send(COMMIT, self.view, n, batch, self.me)
                        self.commits |= {(n, batch, self.me)}
                if self.is_prepared(n) and not self.is_committed(n):
                    voters = {sender for m, b, sender in self.commits if (m, b) == (n, batch)}
                    if len(voters) >= quorum(self.bounds):
                        self.committed |= {(self.view, n, batch)}
                        self.commits = frozenset(vote for vote in self.commits if vote[0] != n)
        self.execute()

    def execute(self):
        while self.wanted is None:
            next_batch = {batch for _, n, batch in self.committed if n == self.executed + 1}
            if not next_batch:
                return
            n, batch = self.executed + 1, min(next_batch)
            runs = []
            for client in batch:
                if client not in self.state:
                    self.state += (client,)
                    runs.append((client, len(self.state)))
            self.executed = n
            self.heard -= set(batch)
            self.service += (("executed", n, batch, tuple(runs)),)
            if self.bounds.interval and n % self.bounds.interval == 0:
                self.taken |= {(n, self.state)}
                self.send(CHECKPOINT, n, self.state, self.me)
                self.vote(n, self.state, self.me)

    # --- 4.3, checkpoints ---

    def on_checkpoint(self, n, state, sender):
        self.vote(n, state, sender)
        self.execute()

    def vote(self, n, state, sender):
        if n <= self.h:
            return
        self.votes |= {(n, state, sender)}
        if len({i for m, s, i in self.votes if (m, s) == (n, state)}) >= quorum(self.bounds):
            self.on_stable(n, state)

    def on_stable(self, n, state):
        """A proof that the checkpoint is stable: everything up to there is discarded, and fetched if need be."""
        if n <= self.h:
            return
        self.h = n
        self.stable += ((n, state),)
        above = lambda votes: frozenset(vote for vote in votes if vote[0] > n)
        self.proposals, self.prepares = above(self.proposals), above(self.prepares)
        self.commits, self.votes = above(self.commits), above(self.votes)
        if n > self.executed:
            self.wanted = (n, state)
        self.propose()

    def on_blocks(self, n, state):
        if self.wanted == (n, state):
            self.wanted, self.state, self.executed = None, state, n
            self.heard -= set(state)
            self.service += (("transferred", n, state),)
            self.advance()

    # --- 4.4, view changes; joining: 4.5.2 ---

    def on_time_out(self):
        if self.target < self.bounds.max_view:
            self.leave(self.target + 1)

    def leave(self, view):
        self.target = view
        self.prepares = self.commits = self.proposals = frozenset()
        latest = {}
        for of, n, batch in sorted(self.prepared):
            if n > self.h:
                latest[n] = (n, of, batch)
        state = dict(self.stable).get(self.h)
        self.send(VIEW_CHANGE, view, self.h, state or (), tuple(latest[n] for n in sorted(latest)), self.me)
        self.forget_views()
        self.assemble()

    def forget_views(self):
        own = self.primary(self.target) == self.me and not self.is_active()
        first = self.target if own else self.target + 1
        self.views = frozenset(known for known in self.views if known[0] >= first)

    def on_view_change(self, view, *content):
        sender = content[-1]
        if view <= self.view or sender == self.me or any((view, sender) == known[:2] for known in self.views):
            return
        mine = self.primary(view) == self.me
        self.views |= {(view, sender, self.world.number((VIEW_CHANGE, view, *content)) if mine else None)}
        self.forget_views()
        higher = [known for known in self.views if known[0] > self.target]
        if len({known[1] for known in higher}) >= self.bounds.f + 1:
            self.leave(min(known[0] for known in higher))
        else:
            self.assemble()

    def assemble(self):
        """The primary of the view that it has left for begins it with a quorum of VIEW-CHANGEs, its own among them."""
        view = self.target
        if self.is_active() or self.primary(view) != self.me:
            return
        messages = [self.world.messages[number] for v, _, number in self.views if v == view]
        messages += [m for m in map(self.world.messages.__getitem__, self.sent) if m[:2] == (VIEW_CHANGE, view)]
        if len(messages) >= quorum(self.bounds):
            chosen = tuple(sorted(messages))
            self.send(NEW_VIEW, view, chosen, self.me)
            self.enter(view, chosen)

    def on_new_view(self, view, view_changes, sender):
        if view > self.view and view >= self.target and sender != self.me:
            self.enter(view, view_changes)

    def enter(self, view, view_changes):
        min_s, state, o = choose_o(view_changes)
        self.view = self.target = view
        self.proposals = self.prepares = self.commits = frozenset()
        self.forget_views()
        if min_s > self.h:
            self.on_stable(min_s, state)
        carried = tuple((n, batch) for n, batch in o if n > self.h)
        self.entered += ((view, self.h, carried),)
        for n, batch in carried:
            self.pre_prepared(n, batch)
        self.propose()
        self.advance()


class Adversary:
    """What Byzantine replicas can send, given what correct ones have sent: all that their keys and that allow."""

    def __init__(self, world):
        self.world, self.bounds = world, world.bounds
        self.keys = sorted(world.bounds.byzantine)
        self.outcomes = {}
        self.known_new_views = {}
        bounds = self.bounds
        batches = [(client,) for client in range(bounds.requests)]
        self.given = [(REQUEST, client) for client in range(bounds.requests)] + [(BATCH, b) for b in batches]
        for view, n, batch in itertools.product(range(bounds.max_view + 1), self.numbers(), batches + [()]):
            for me in self.keys:
                if view % bounds.n == me:
                    self.given.append((PRE_PREPARE, view, n, batch))
                else:
                    self.given.append((PREPARE, view, n, batch, me))
                self.given.append((COMMIT, view, n, batch, me))

    def numbers(self):
        return range(1, self.bounds.max_seq + 1)

    def available(self, sent):
        """Every message that can be delivered."""
        made = list(self.given)
        vouched = {m[1:3] for m in sent if m[0] == CHECKPOINT}
        made += [(CHECKPOINT, n, state, me) for n, state in vouched for me in self.keys]
        stable = [(n, state) for n, state in sorted(vouched) if self.is_stable(n, state, sent)]
        made += [(STABLE, n, state) for n, state in stable] + [(BLOCKS, n, state) for n, state in vouched]
        own = self.view_changes(self.certificates(sent), stable)
        made += own
        for view in range(1, self.bounds.max_view + 1):
            if view % self.bounds.n in self.keys:
                usable = [m for m in itertools.chain(sent, own) if m[:2] == (VIEW_CHANGE, view)]
                made += self.new_views(view, frozenset(usable))
        return set(made) | set(sent)

    def is_stable(self, n, state, sent):
        voters = {m[3] for m in sent if m[:3] == (CHECKPOINT, n, state)}
        return len(voters | set(self.keys)) >= quorum(self.bounds)

    def certificates(self, sent):
        """Each (n, view, batch) of which it can be shown that it prepared: the primary's signature and enough backups'."""
        proposed = {m[1:4] for m in sent if m[0] == PRE_PREPARE}
        for m in sent:
            if m[0] == NEW_VIEW:
                proposed |= {(m[1], n, batch) for n, batch in choose_o(m[2])[2]}
        voted = {}
        for m in sent:
            if m[0] == PREPARE:
                voted.setdefault(m[1:4], set()).add(m[4])
        shown = []
        for (view, n, batch), voters in voted.items():
            primary = view % self.bounds.n
            voters = (voters | set(self.keys)) - {primary}
            if (primary in self.keys or (view, n, batch) in proposed) and len(voters) >= quorum(self.bounds) - 1:
                shown.append((n, view, batch))
        return shown

    def view_changes(self, certificates, stable):
        """Its own, with any provable checkpoint and any choice of provable certificates, one for each number at most."""
        made = []
        for view in range(1, self.bounds.max_view + 1):
            for h, state in [(0, ())] + stable:
                fit = lambda n: [c for c in certificates if c[0] == n and c[1] < view and h < n <= h + self.bounds.window]
                for choice in itertools.product(*[[None] + fit(n) for n in self.numbers()]):
                    p = tuple(c for c in choice if c)
                    made += [(VIEW_CHANGE, view, h, state, p, me) for me in self.keys]
        return made

    def new_views(self, view, usable):
        """One NEW-VIEW for each min-s and O that a quorum of VIEW-CHANGEs leads to: to a receiver all such are the same."""
        if (view, usable) not in self.known_new_views:
            by_sender = {}
            for m in sorted(usable):
                by_sender.setdefault(m[-1], []).append(m)
            made = set()
            most = len(by_sender) if self.bounds.max_seq > quorum(self.bounds) else quorum(self.bounds)
            for size in range(quorum(self.bounds), most + 1):
                for senders in itertools.combinations(sorted(by_sender), size):
                    for chosen in itertools.product(*[by_sender[sender] for sender in senders]):
                        outcome = (view, choose_o(chosen))
                        made.add(self.outcomes.setdefault(outcome, (NEW_VIEW, view, chosen, view % self.bounds.n)))
            self.known_new_views[view, usable] = made
        return self.known_new_views[view, usable]


class Numbered:
    """Gives equal things one number."""

    def __init__(self):
        self.numbers, self.things = {}, []

    def __call__(self, thing):
        number = self.numbers.setdefault(thing, len(self.things))
        if number == len(self.things):
            self.things.append(thing)
        return number

    def __getitem__(self, number):
        return self.things[number]


class Place:
    """Everything that the correct replica at one position can be: its local states by number."""

    def __init__(self, world, me):
        self.world, self.me = world, me
        self.locals, self.histories, self.sent, self.behaviours = Numbered(), Numbered(), Numbered(), Numbered()
        self.facts = []   # of each local state: its history, what it has sent, and both, by number
        self.tried, self.useful, self.targets, self.moves = [], [], [], []
        nothing = frozenset()
        start = Local(0, 0, *[nothing] * 7, 0, (), 0, None, nothing, nothing, (), (), nothing, (), nothing)
        self.name(start)

    def name(self, local):
        number = self.locals(local)
        if number == len(self.facts):
            history, sent = self.histories(local[HISTORY:-1]), self.sent(local.sent)
            self.facts.append((history, sent, self.behaviours((history, sent))))
            self.tried.append(0)
            self.useful.append(0)
            self.targets.append({})
            self.moves.append({})
        return number

    def successors(self, number, available):
        """The local states that one of the messages in `available`, a set as bits, leads to."""
        untried = available & ~self.tried[number]
        if untried:
            self.tried[number] |= untried
            local = self.locals[number]
            while untried:
                bit = untried & -untried
                untried ^= bit
                replica = Replica(self.world, self.me, local)
                replica.take(self.world.messages[bit.bit_length() - 1])
                target = self.name(replica.local())
                if target != number:
                    self.useful[number] |= bit
                    self.targets[number][bit] = target
        useful = available & self.useful[number]
        known = self.moves[number].get(useful)
        if known is None:
            targets = self.targets[number]
            known = tuple({targets[bit] for bit in targets if bit & useful})
            self.moves[number][useful] = known
        return known


BITS = 24


class World:
    """All reachable states: one number a correct replica, packed in one integer."""

    def __init__(self, bounds):
        self.bounds = bounds
        self.messages = Numbered()
        self.number = self.messages
        self.correct = [i for i in range(bounds.n) if i not in bounds.byzantine]
        self.adversary = Adversary(self)
        self.places = [Place(self, me) for me in self.correct]
        self.known_available = {}
        self.problems = []

    def available(self, sent):
        """The messages that can be delivered when correct replicas have sent these, one set each, as bits."""
        bits = self.known_available.get(sent)
        if bits is None:
            numbers = set().union(*[place.sent[number] for place, number in zip(self.places, sent)])
            messages = self.adversary.available([self.messages[number] for number in sorted(numbers)])
            bits = sum(1 << self.number(message) for message in messages | {(TIME_OUT,)})
            self.known_available[sent] = bits
        return bits

    def explore(self, most=None):
        start = tuple(0 for _ in self.places)
        pack = lambda numbers: sum(number << (BITS * at) for at, number in enumerate(numbers))
        seen, frontier = {pack(start)}, [pack(start)]
        self.histories, self.behaviours = set(), set()
        shifts = [BITS * at for at in range(len(self.places))]
        mask = (1 << BITS) - 1
        while frontier:
            state = frontier.pop()
            numbers = [state >> shift & mask for shift in shifts]
            facts = [place.facts[number] for place, number in zip(self.places, numbers)]
            self.behaviours.add(tuple([fact[2] for fact in facts]))
            history = tuple([fact[0] for fact in facts])
            if history not in self.histories:
                self.histories.add(history)
                self.judge(history)
            available = self.available(tuple([fact[1] for fact in facts]))
            for place, number, shift in zip(self.places, numbers, shifts):
                rest = state - (number << shift)
                for target in place.successors(number, available):
                    other = rest + (target << shift)
                    if other not in seen:
                        seen.add(other)
                        frontier.append(other)
            if most and len(seen) > most:
                raise SystemExit(f"more than {most} states: not finished")
        return len(seen)

    def judge(self, history):
        """Agreement and validity, of the histories of all correct replicas together."""
        order, prepared, states = {}, {}, {}
        for place, number in zip(self.places, history):
            done = Local(*[None] * HISTORY, *place.histories[number], None)
            for view, n, batch in done.prepared | done.committed:
                if prepared.setdefault((view, n), batch) != batch:
                    self.problems.append(f"two batches are prepared at {n} in view {view}: {self.line(history)}")
            runs, last = [], 0
            for step in done.service:
                if step[0] == "executed":
                    _, n, batch, more = step
                    runs += [client for client, _ in more]
                    if n != last + 1 or order.setdefault(n, batch) != batch:
                        self.problems.append(f"disagreement at {n}: {self.line(history)}")
                else:
                    _, n, state = step
                    runs = list(state)
                last = n
                if states.setdefault(n, tuple(runs)) != tuple(runs):
                    self.problems.append(f"two states after {n}: {self.line(history)}")
            if len(set(runs)) != len(runs) or not set(runs) <= set(range(self.bounds.requests)):
                self.problems.append(f"something ran twice, or nobody asked for it: {self.line(history)}")

    # --- the text format of docs/SECOND_OPINION.md ---

    def line(self, history):
        parts = []
        for place, number in zip(self.places, history):
            parts.append(" ".join([f"r{place.me}"] + history_items(place.histories[number])))
        return " | ".join(parts)

    def behaviour(self, behaviour):
        parts = []
        for place, number in zip(self.places, behaviour):
            history, sent = place.behaviours[number]
            items = history_items(place.histories[history])
            items += sorted("sent:" + text(self.messages[m]) for m in place.sent[sent])
            parts.append(" ".join([f"r{place.me}"] + items))
        return " | ".join(parts)

    def history_lines(self):
        return sorted(map(self.line, self.histories))

    def behaviour_lines(self):
        return sorted(map(self.behaviour, self.behaviours))


def named(batch):
    return "+".join(f"c{client}" for client in batch) or "null"


def named_state(state):
    return "<" + ",".join(f"c{client}" for client in state) + ">"


def assigned(pairs):
    return ",".join(f"{n}={named(batch)}" for n, batch in pairs)


def history_items(history):
    prepared, committed, service, entered, taken, stable = history
    items = [f"prepared:{view}.{n}={named(batch)}" for view, n, batch in sorted(prepared)]
    items += [f"committed:{view}.{n}={named(batch)}" for view, n, batch in sorted(committed)]
    for step in service:
        if step[0] == "executed":
            _, n, batch, runs = step
            runs = ",".join(f"c{client}@1->{result}" for client, result in runs)
            items.append(f"executed:{n}={named(batch)}({runs})")
        else:
            items.append(f"transferred:{step[1]}={named_state(step[2])}")
    items += [f"entered:{view}/h={h}({assigned(carried)})" for view, h, carried in entered]
    items += [f"checkpoint:{n}={named_state(state)}" for n, state in sorted(taken)]
    items += [f"stable:{n}={named_state(state)}" for n, state in stable]
    return items


def text(message):
    kind, *fields = message
    if kind == PRE_PREPARE:
        view, n, batch = fields
        return f"{kind}({view}.{n}={named(batch)})"
    if kind in (PREPARE, COMMIT):
        view, n, batch, _ = fields
        return f"{kind}({view}.{n}={named(batch)})"
    if kind == CHECKPOINT:
        return f"{kind}({fields[0]}={named_state(fields[1])})"
    if kind == VIEW_CHANGE:
        return f"{kind}({fields[0]};{view_change_text(message)})"
    view, view_changes, _ = fields
    inside = ",".join(f"r{m[-1]}[{view_change_text(m)}]" for m in sorted(view_changes, key=lambda m: m[-1]))
    return f"{kind}({view};{inside};{assigned(choose_o(view_changes)[2])})"


def view_change_text(message):
    _, _, h, state, certificates, _ = message
    below = f"h={h}" + (named_state(state) if h else "")
    return below + ";" + ",".join(f"{view}.{n}={named(batch)}" for n, view, batch in certificates)


def digest(lines):
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


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
