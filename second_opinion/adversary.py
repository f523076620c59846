"""What Byzantine replicas can send."""
import itertools

from protocol import (BATCH, BLOCKS, CHECKPOINT, COMMIT, NEW_VIEW, NOBODYS, PRE_PREPARE, PREPARE, REQUEST, STABLE, VIEW_CHANGE,
                      choose_o, quorum)


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
        for view, n, batch in itertools.product(range(bounds.max_view + 1), self.numbers(), batches + [()] + NOBODYS):
            for me in self.keys:
                if view % bounds.n == me:
                    if batch not in NOBODYS:   # A batch that is not there cannot be sent.
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
        if self.bounds.interval:
            # Of every state that somebody vouches for, the first, and two that nobody has.
            states = {state for _, state in vouched} | {(), *NOBODYS}
            numbers = [n for n in self.numbers() if n % self.bounds.interval == 0]
            made += [(CHECKPOINT, n, state, me) for n in numbers for state in states for me in self.keys]
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
