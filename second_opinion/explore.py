"""Every reachable state of a world, and its judgement."""
from adversary import Adversary
from protocol import HISTORY, TIME_OUT, Local, Replica
from text import history_items, text


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
        start = Local(0, 0, (), *[nothing] * 6, 0, (), 0, None, nothing, nothing, (), (), nothing, (), nothing)
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
