"""Plays schedules of the model and writes each step down: what was done to HAPI, the speed store and the daemons, and what the model then holds.

    python3 drive.py FIRST COUNT [RULE …]      COUNT runs from seed FIRST (with rules broken); one JSON object a line

The property test reads the lines, does the same to the real parts and compares after every step (`tests/tests/protocol.rs`).
"""
import json
import sys
from hapi import IDS, Hapi
from model import MARGIN, Refresher, Violation
from run import Play, steps_of

START = 1000    # the first time: far enough from 0, which stands for "never" in the model and is None outside it


class RecordedHapi(Hapi):
    """Notes every effect on HAPI's tables, so that the reader of the notes needs no logic of HAPI's."""

    def begin(self, k, lag):
        new = k not in self.open
        super().begin(k, lag)
        if new:
            self.w.note("begin", tx=k, start=self.open[k].start)

    def write(self, k, rid, op):
        tx = self.open.get(k)
        before = len(tx.writes) if tx else 0
        super().write(k, rid, op)
        if tx and len(tx.writes) > before:
            s = tx.writes[-1]
            self.w.note("write", tx=k, savepoint=s.xid != tx.xid, state=state(s))

    def finish(self, k, commit):
        if k in self.open:
            self.w.note("commit" if commit else "abort", tx=k)
        super().finish(k, commit)

    def restore(self):
        super().restore()
        self.w.note("hapi_restore", timeline=self.timeline, rows={rid: [state(s) for s in rows] for rid, rows in self.rows.items()})


def state(s):
    return dict(id=s.rid, version=s.version, updated=s.updated, deleted=s.deleted, content=s.content, life=s.life)


def position(p):
    return dict(n=p.n, T=p.T, bound=p.bound, timeline=p.timeline) if p and p.n else None


class RecordedRefresher(Refresher):
    """Notes of which kind a run is that has begun."""

    def __setattr__(self, name, value):
        if name == "run" and value is not None:
            self.w.begun = value.kind
        super().__setattr__(name, value)

    def catch_up(self, run):
        """What is neither in HAPI nor shown makes no slice: the real run does not know of it."""
        ended = super().catch_up(run)
        if not ended:
            run.todo = [rid for rid in run.todo if run.load[rid].version or rid in run.changed or self.is_shown(rid)]
        return ended

    def is_shown(self, rid):
        db = self.w.db
        return rid in db.ledger or any(v.base.get(rid) or v.live.get(rid) or v.shadowed.get(rid) for v in db.views.values())


class Recorded(Play):
    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.begun, self.refresher = None, RecordedRefresher(self)
        self.now, self.notes, self.lines, self.last = START, [], [], None
        self.hapi = RecordedHapi(self, args[0] if args else 0)

    def note(self, what, **fields):
        self.notes.append(dict(do=what, **fields))

    def webhook(self, s):
        if s.deleted:
            self.note("webhook_delete")
        else:
            self.note("webhook", state=state(s), received=self.now + self.ingest_skew)
        super().webhook(s)

    # ------------------------------------------------------------------------------------------- steps of the daemons, by what they do
    def tail_(self, a, b):
        self.note("tail", which=0 if a % 8 else 1, capped=b % 6 == 0)
        super().tail_(a, b)

    def tail_restart(self, a, b):
        self.note("tail_restart", which=0)
        super().tail_restart(a, b)

    def merge(self, a, b):
        self.note("merge", which=0 if a % 8 else 1, size=1 + b % 4)
        super().merge(a, b)

    def merger_crash(self, a, b):
        self.note("merger_forget", which=a % 2)
        super().merger_crash(a, b)

    def refresh(self, a, b):
        new = self.refresher.run is None
        note = dict(do="refresh", begins=None)
        self.notes.append(note)
        super().refresh(a, b)
        if new:
            note["begins"] = self.begun

    def refresher_crash(self, a, b):
        self.note("refresher_crash")
        super().refresher_crash(a, b)

    def zombie(self, a, b):
        self.note("zombie")
        super().zombie(a, b)

    def at_least(self, a, b):
        before = len(self.observer.waiting)
        super().at_least(a, b)
        if len(self.observer.waiting) > before:
            s, asked = self.observer.waiting[-1]
            self.note("at_least", id=s.rid, version=s.version, asked=asked)

    def flush(self, a, b):
        self.note("flush")
        super().flush(a, b)

    def db_crash(self, a, b):
        self.note("db_crash")
        super().db_crash(a, b)

    def fsync(self, a, b):
        self.note("store_fsync")
        super().fsync(a, b)

    def save(self, a, b):
        self.note("store_save")
        super().save(a, b)

    def store_crash(self, a, b):
        self.note("store_crash", to=("synced", "synced", "nothing", "backup")[b % 4])
        super().store_crash(a, b)

    def expire(self, a, b):
        """All that may leave, for that is what the store lets go at once."""
        self.note("expire")
        for rid in IDS:
            self.store.expire(rid)

    # ------------------------------------------------------------------------------------------------------------------------- quiescence
    def speed_round(self):
        self.note("tail_restart", which=0)
        self.tails[0].restart()
        start = self.now
        self.until(lambda: self.store.mark and self.store.mark.T > start, "tail_", 1, 1)
        self.note("merger_forget", which=0)
        self.mergers[0].forget()
        self.until(lambda: self.db.speed[0] == self.store.mark.n, "merge", 1, 3)

    def batch_run(self, kind):
        self.note("refresher_drop")
        super().batch_run(kind)

    # ------------------------------------------------------------------------------------------------------------------------------ notes
    def step(self, action, a=0, b=0):
        super().step(action, a, b)
        self.write_down(action)

    def write_down(self, action):
        held = self.holds()
        self.lines.append(dict(action=action.strip("_"), now=self.now, does=self.notes, holds=held if held != self.last else None))
        self.notes, self.last = [], held

    def holds(self):
        db, store = self.db, self.store
        views = {name: {table: sorted([*row] for rows in getattr(v, table).values() for row in rows) for table in ("base", "live", "shadowed")}
                 for name, v in db.views.items()}
        return dict(
            views=views, number=db.number, newest=db.newest,
            ledger={rid: dict(n=e.n, version=e.version, layer=e.layer, received=e.received) for rid, e in sorted(db.ledger.items())},
            speed=dict(n=db.speed[0], T=db.speed[1]) if db.speed[0] else None,
            published=position(db.published),
            mark=position(store.mark),
            readings={rid: dict(version=h.state.version, updated=h.state.updated, deleted=h.state.deleted, n=h.n, T=h.T)
                      for rid, h in sorted(store.readings.items())},
            previews=[dict(id=p.state.rid, version=p.state.version, received=p.received) for p in store.previews],
            waiting=[[s.rid, s.version, asked] for s, asked in self.observer.waiting])


def main(first, count, *broken):
    for seed in range(int(first), int(first) + int(count)):
        (skew, ingest_skew), steps = steps_of(seed)
        w = Recorded(skew, ingest_skew, broken=set(broken))
        failed = None
        try:
            for s in steps:
                w.step(*s)
            w.quiesce()
        except Violation as v:
            failed = list(v.args)
        if w.notes:
            w.write_down("end")
        json.dump(dict(seed=seed, skew=skew, ingest_skew=ingest_skew, margin=MARGIN, steps=w.lines, failed=failed), sys.stdout, separators=(",", ":"))
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
