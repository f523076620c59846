"""The text format of docs/SECOND_OPINION.md."""
import hashlib

from protocol import CHECKPOINT, COMMIT, PRE_PREPARE, PREPARE, VIEW_CHANGE, choose_o


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
