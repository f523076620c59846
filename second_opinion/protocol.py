"""Messages, and what a correct replica does with them: OSDI'99, 4.2 to 4.4, joining by 4.5.2."""
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

# Two digests that name nothing anybody has.
NOBODYS = [("x",), ("y",)]

Bounds = namedtuple("Bounds", "n f byzantine max_view max_seq requests interval window")

# What a correct replica knows and has done. All sets are frozensets, of numbers of messages or of tuples.
Local = namedtuple("Local", [
    "view",        # entered last
    "target",      # the view of the last VIEW-CHANGE sent, or `view`
    "heard",       # clients whose REQUEST has come and not run, as they came
    "bodies",      # clients whose request is in the log
    "proposals",   # (n, batch) pre-prepared in `view`
    "prepares",    # (n, batch, i) of `view`, until prepared
    "commits",     # (n, batch, i) of `view`, until committed
    "views",       # (v, i, VIEW-CHANGE) received for views above `view`
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


def is_first(votes, n, sender):
    """Whether this sender has not voted at n. A correct replica votes once, so only the first vote counts."""
    return not any((m, i) == (n, sender) for m, _, i in votes)


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
                    STABLE: self.on_proof, VIEW_CHANGE: self.on_view_change, NEW_VIEW: self.on_new_view,
                    BLOCKS: self.on_blocks, TIME_OUT: self.on_time_out}
        handlers[kind](*fields)

    # --- 4.2, the normal case ---

    def on_request(self, client):
        if client not in self.state:
            if client not in self.heard:
                self.heard += (client,)
            self.bodies |= {client}
            self.propose()
            self.advance()

    def propose(self):
        """The primary gives the requests that it has heard of the next numbers."""
        if self.me != self.primary(self.view) or not self.is_active():
            return
        for client in self.heard:
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
        # The null request has no client who could have signed it: it is ordered by an O alone.
        fits = fits and batch != ()
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
        if fits and not self.is_prepared(n) and is_first(self.prepares, n, sender):
            self.prepares |= {(n, batch, sender)}
            self.advance()

    def on_commit(self, view, n, batch, sender):
        fits = view == self.view and self.is_active() and self.in_window(n)
        if fits and not self.is_committed(n) and is_first(self.commits, n, sender):
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
        # What committed in an earlier view and did not execute there is in the O of this one, and commits again.
        while self.wanted is None and self.is_active():
            now = [slot for slot in self.committed if slot[:2] == (self.view, self.executed + 1)]
            next_batch = {batch for _, _, batch in now}
            if not next_batch:
                return
            n, batch = self.executed + 1, min(next_batch)
            runs = []
            for client in batch:
                if client not in self.state:
                    self.state += (client,)
                    runs.append((client, len(self.state)))
            self.executed = n
            self.heard = tuple(client for client in self.heard if client not in batch)
            self.service += (("executed", n, batch, tuple(runs)),)
            if self.bounds.interval and n % self.bounds.interval == 0:
                self.taken |= {(n, self.state)}
                self.send(CHECKPOINT, n, self.state, self.me)
                self.vote(n, self.state, self.me)
                self.propose()

    # --- 4.3, checkpoints ---

    def on_checkpoint(self, n, state, sender):
        self.vote(n, state, sender)
        self.propose()
        self.execute()

    def vote(self, n, state, sender):
        if n <= self.h or not is_first(self.votes, n, sender):
            return
        self.votes |= {(n, state, sender)}
        if len({i for m, s, i in self.votes if (m, s) == (n, state)}) >= quorum(self.bounds):
            self.on_stable(n, state)

    def on_proof(self, n, state):
        self.on_stable(n, state)
        self.propose()

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

    def on_blocks(self, n, state):
        if self.wanted == (n, state):
            self.wanted, self.state, self.executed = None, state, n
            self.heard = tuple(client for client in self.heard if client not in state)
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
        self.assemble()

    def on_view_change(self, view, *content):
        sender = content[-1]
        if view <= self.view or sender == self.me or any((view, sender) == known[:2] for known in self.views):
            return
        self.views |= {(view, sender, self.world.number((VIEW_CHANGE, view, *content)))}
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
        self.views = frozenset(known for known in self.views if known[0] > view)
        if min_s > self.h:
            self.on_stable(min_s, state)
        carried = tuple((n, batch) for n, batch in o if n > self.h)
        self.entered += ((view, self.h, carried),)
        for n, batch in carried:
            self.pre_prepared(n, batch)
        self.propose()
        self.advance()
