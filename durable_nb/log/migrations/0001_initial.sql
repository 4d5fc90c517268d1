-- The log of durable_nb, version 1. Times are UTC seconds since 1970 as REAL. A payload column holds JSON as TEXT, or, where the JSON is
-- larger than 64 KiB, its SHA-256 as BLOB, which names a row of `payload`.

CREATE TABLE log (
    id         TEXT NOT NULL,             -- this log's own id, part of every signature
    created_at REAL NOT NULL,
    layout     TEXT NOT NULL              -- fingerprint of the migrations that were applied
) STRICT;

CREATE TABLE payload (
    hash BLOB PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Values that JSON cannot hold (bytes, arrays, tables), by the SHA-256 of their form; a payload's JSON refers to them.
CREATE TABLE artifact (
    hash BLOB PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

-- Who is alive is told by a lock on a file (engine/liveness.py), not by this row.
CREATE TABLE worker (
    id         TEXT PRIMARY KEY,
    home       TEXT NOT NULL,             -- the notebook or script that it serves, '' where unknown
    pid        INTEGER NOT NULL,
    host       TEXT NOT NULL,
    started_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE definition (
    task       TEXT NOT NULL,
    version    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    options    TEXT NOT NULL,             -- JSON
    body       TEXT NOT NULL,             -- JSON: source and what it needs
    home       TEXT NOT NULL,
    signature  BLOB NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (task, version, home)
) STRICT, WITHOUT ROWID;

CREATE TABLE run (
    -- written once
    number        INTEGER PRIMARY KEY,    -- order of creation; the short name of the run inside this file
    id            TEXT NOT NULL UNIQUE,
    task          TEXT NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('task', 'durable_task')),
    version       TEXT,                   -- of the definition that it was started with
    input         ANY NOT NULL,
    metadata      TEXT NOT NULL,
    priority      INTEGER NOT NULL,
    parent        INTEGER REFERENCES run (number),
    child_key     TEXT,
    child_index   INTEGER,
    key           TEXT UNIQUE,            -- a name that the user gave it for good
    home          TEXT NOT NULL,
    signature     BLOB,
    event         TEXT,                   -- id of the event that started it
    deadline      REAL,                   -- it is cancelled then
    cancel_grace  REAL NOT NULL DEFAULT 30,      -- seconds of clean-up after a cancel
    cancel_with_parent INTEGER NOT NULL DEFAULT 1,
    forked_from   INTEGER REFERENCES run (number),
    seeds         TEXT,                   -- of a fork: JSON [[first node, seed], ...] that chance is drawn from
    event_floor   INTEGER NOT NULL,       -- events up to this one were accepted before it: its mailboxes begin above
    idempotency_key TEXT,
    filter_payload TEXT,                  -- JSON: of the filter that let the event through
    lineup        TEXT,                   -- where it waits for places: crowds, task and home; NULL: it has no limits
    created_at    REAL NOT NULL,
    -- current state
    status        TEXT NOT NULL DEFAULT 'QUEUED' CHECK (status IN ('QUEUED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    is_evicted    INTEGER NOT NULL DEFAULT 0,
    blocked_reason TEXT,
    ready_at      REAL,                   -- wants a slot from then on; NULL: running, waiting, blocked or ended
    gate          INTEGER NOT NULL DEFAULT 2,  -- 0: stands in its lineup, 1: is let in and claimed by nobody yet, 2: inside, or it has no lineup
    turn          INTEGER NOT NULL DEFAULT 0,  -- among runs that are ready since the same instant, the lowest is first
    owner         TEXT,                   -- the worker that may write
    epoch         INTEGER NOT NULL DEFAULT 0,
    branch        INTEGER NOT NULL DEFAULT 1,
    last_seq      INTEGER NOT NULL DEFAULT 0,  -- of the last completion recorded for it
    retry_count   INTEGER NOT NULL DEFAULT 0,
    invocation_count INTEGER NOT NULL DEFAULT 0,
    worked        REAL NOT NULL DEFAULT 0,     -- seconds of this attempt outside durable waits, in earlier invocations
    queued        REAL NOT NULL DEFAULT 0,     -- seconds in the queue while an engine that serves the task lived
    queue_seen_at REAL,
    cancelled_at  REAL,                        -- when its cancel was asked for
    due_at        REAL,                        -- when the engine acts on it: its deadline, or the end of its clean-up
    started_at    REAL,
    finished_at   REAL,
    output        ANY,
    error         TEXT,                   -- JSON: type, message, trace
    progress      REAL,                   -- as the task said last, 0 to 1
    progress_message TEXT
) STRICT;

CREATE INDEX run_ready ON run (priority DESC, ready_at, turn, number, task) WHERE ready_at IS NOT NULL AND gate > 0;
CREATE INDEX run_ready_at ON run (ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX run_owner ON run (owner) WHERE owner IS NOT NULL;
CREATE INDEX run_parent ON run (parent, number) WHERE parent IS NOT NULL;
CREATE INDEX run_child_key ON run (parent, child_key) WHERE child_key IS NOT NULL;
CREATE INDEX run_status ON run (status, number);
CREATE INDEX run_task ON run (task, number);
CREATE INDEX run_blocked ON run (task) WHERE blocked_reason IS NOT NULL;
CREATE INDEX run_created ON run (created_at);
CREATE INDEX run_due ON run (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX run_lineup ON run (lineup, gate, priority DESC, number) WHERE lineup IS NOT NULL;
CREATE UNIQUE INDEX run_event ON run (event, task) WHERE event IS NOT NULL AND forked_from IS NULL;  -- an event starts one run of a task

CREATE INDEX run_forked ON run (forked_from) WHERE forked_from IS NOT NULL;

-- A branch inherits its parent's checkpoints below `cut`, but for the dropped ones, and goes on with its own. Parent 0: it inherits
-- nothing, since the run was continued as new.
CREATE TABLE branch (
    run        INTEGER NOT NULL REFERENCES run (number),
    branch     INTEGER NOT NULL,
    parent     INTEGER NOT NULL,
    cut        INTEGER NOT NULL,
    dropped    TEXT NOT NULL,             -- JSON list of nodes below the cut
    reason     TEXT NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (run, branch)
) STRICT, WITHOUT ROWID;

-- A run that was continued as new: from this branch on it has an input of its own. The first history has no row.
CREATE TABLE history (
    run        INTEGER NOT NULL REFERENCES run (number),
    branch     INTEGER NOT NULL,          -- the first of the history
    input      ANY NOT NULL,
    signature  BLOB,
    mailboxes  TEXT NOT NULL,             -- JSON list of [key, scope, which, sequence number of the last event taken]
    seq_before INTEGER NOT NULL,          -- outcomes of the run up to this one belong to earlier histories
    run_before INTEGER NOT NULL,          -- its children have higher numbers
    created_at REAL NOT NULL,
    PRIMARY KEY (run, branch)
) STRICT, WITHOUT ROWID;

-- What a durable task asked and what came of it. The outcome is written once, with its place `seq` in the run's order of delivery.
CREATE TABLE checkpoint (
    run         INTEGER NOT NULL REFERENCES run (number),
    branch      INTEGER NOT NULL,
    node        INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    ask         TEXT NOT NULL,            -- in words
    fingerprint BLOB NOT NULL,
    line        INTEGER,                  -- of the task's source
    child       INTEGER REFERENCES run (number),  -- the run whose end is awaited
    asked_at    REAL NOT NULL,
    seq         INTEGER,                  -- NULL: not satisfied yet
    recorded_at REAL,
    outcome     ANY,
    error       TEXT,                     -- JSON: type, message, trace; the outcome is then NULL
    abandoned   INTEGER NOT NULL DEFAULT 0,  -- n: its own code stopped waiting for it when outcome n - 1 had been delivered
    conditions  TEXT,                     -- JSON: a wait's conditions, as they were registered; the open ones are rows of `wait`
    PRIMARY KEY (run, branch, node)
) STRICT, WITHOUT ROWID;

CREATE INDEX checkpoint_child ON checkpoint (child) WHERE child IS NOT NULL;
CREATE INDEX checkpoint_seq ON checkpoint (run, seq) WHERE seq IS NOT NULL;

-- A cancel that was asked for: a fact with a place in the run's order of delivery, one for a branch.
CREATE TABLE cancel (
    run    INTEGER NOT NULL REFERENCES run (number),
    branch INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    at     REAL NOT NULL,
    reason TEXT NOT NULL,
    after  INTEGER,                       -- the last node that was asked when it was delivered; NULL until then
    PRIMARY KEY (run, branch)
) STRICT, WITHOUT ROWID;

-- What a task asks a person at a checkpoint; the answer, with who gave it and when, is the checkpoint's outcome.
CREATE TABLE question (
    run       INTEGER NOT NULL REFERENCES run (number),
    branch    INTEGER NOT NULL,
    node      INTEGER NOT NULL,
    text      ANY NOT NULL,
    schema    TEXT NOT NULL,              -- JSON Schema of the answer
    assignees TEXT NOT NULL,              -- JSON list of names
    asked_at  REAL NOT NULL,
    due_at    REAL,                       -- no answer is taken from then on
    PRIMARY KEY (run, branch, node)
) STRICT, WITHOUT ROWID;

CREATE INDEX question_asked ON question (asked_at, run, branch, node);

-- The open conditions of a wait that is not satisfied yet; gone when its checkpoint is.
CREATE TABLE wait (
    run          INTEGER NOT NULL,
    branch       INTEGER NOT NULL,
    node         INTEGER NOT NULL,
    item         INTEGER NOT NULL,
    group_number INTEGER NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('sleep', 'event', 'ask')),
    name         TEXT NOT NULL,           -- the readable key of its data
    due_at       REAL,
    key          TEXT,
    scope        TEXT,
    expression   TEXT,
    schema       TEXT,                    -- JSON Schema of the payloads that match, or of the answer
    floor        INTEGER,                 -- events up to this one were accepted before it was registered
    since        REAL,                    -- events at or below the floor count too from then on, and are still to be looked at
    matched_at   REAL,                    -- -1: closed, since its run ended, left it behind or gave it up
    data         ANY,
    event        INTEGER,                 -- the one that matched
    filter_error TEXT,                    -- the last error of its filter, shown to people
    -- of its expression, for the index: the fields that must be equal to something, '' for none, and the hash of what
    filter_fields TEXT NOT NULL DEFAULT '',
    filter_value  BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (run, branch, node, item)
) STRICT, WITHOUT ROWID;

CREATE INDEX wait_due ON wait (due_at) WHERE due_at IS NOT NULL AND matched_at IS NULL;
CREATE INDEX wait_key ON wait (key, filter_fields, filter_value) WHERE key IS NOT NULL AND matched_at IS NULL;
CREATE INDEX wait_back ON wait (run, branch, node, item) WHERE since IS NOT NULL AND matched_at IS NULL;
CREATE INDEX wait_inbox ON wait (run, branch, node) WHERE schema IS NOT NULL AND matched_at IS NULL;

CREATE TABLE event (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    key         TEXT NOT NULL,
    scope       TEXT,
    payload     ANY NOT NULL,
    metadata    TEXT NOT NULL,
    priority    INTEGER,                     -- of the runs that it starts
    accepted_at REAL NOT NULL,
    matched     INTEGER NOT NULL DEFAULT 0   -- every wait and listener registered before it was considered
) STRICT;

CREATE INDEX event_pending ON event (key, seq) WHERE matched = 0;
CREATE INDEX event_key ON event (key, seq);
CREATE INDEX event_scope ON event (key, scope, seq, accepted_at) WHERE scope IS NOT NULL;

-- The runs whose waits an event satisfied or advanced.
CREATE TABLE event_run (
    run   INTEGER NOT NULL REFERENCES run (number),
    event INTEGER NOT NULL REFERENCES event (seq),
    PRIMARY KEY (event, run)
) STRICT, WITHOUT ROWID;

CREATE INDEX event_run_run ON event_run (run);

-- Which tasks are started by which events, as they were declared last. `declaration` makes a run where the task itself is not known.
CREATE TABLE listener (
    task        TEXT NOT NULL,
    pattern     TEXT NOT NULL,            -- an event's key; * stands for any characters
    is_wild     INTEGER NOT NULL,
    declaration TEXT NOT NULL,            -- JSON: kind, version, home, options, schema of the input
    floor       INTEGER NOT NULL,         -- events up to this one were accepted before it was declared
    PRIMARY KEY (task, pattern)
) STRICT, WITHOUT ROWID;

CREATE INDEX listener_pattern ON listener (is_wild, pattern);

-- An event that a listening task could not be started with.
CREATE TABLE near_miss (
    event  TEXT NOT NULL REFERENCES event (id),
    task   TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (event, task)
) STRICT, WITHOUT ROWID;

-- Runs of one concurrency key ('runs': so many at once) or users of one rate limit ('rate': so many units in `seconds`).
CREATE TABLE crowd (
    number     INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('runs', 'rate')),
    task       TEXT NOT NULL,             -- '' for a rate limit, which tasks share
    expression TEXT NOT NULL,             -- that gave the key; '' for a rate limit
    key        TEXT NOT NULL,
    most       INTEGER NOT NULL,
    seconds    REAL,
    used       INTEGER NOT NULL DEFAULT 0,  -- units in `spend`
    due_at     REAL,                      -- when units are free again for those who wait
    UNIQUE (kind, task, expression, key)
) STRICT;

CREATE INDEX crowd_due ON crowd (due_at) WHERE due_at IS NOT NULL;

-- What a run needs of a crowd. It holds a place among 'runs' from when it is let in to its end, units of a 'rate' until it is claimed.
CREATE TABLE place (
    run   INTEGER NOT NULL REFERENCES run (number),
    crowd INTEGER NOT NULL REFERENCES crowd (number),
    units INTEGER NOT NULL,
    state INTEGER,                        -- 0: wants it, 1: holds it, 2: holds it and was asked to leave, NULL: has done with it
    PRIMARY KEY (run, crowd)
) STRICT, WITHOUT ROWID;

CREATE INDEX place_taken ON place (crowd, state, run) WHERE state IS NOT NULL;

-- Units of a rate limit that were used.
CREATE TABLE spend (
    crowd INTEGER NOT NULL REFERENCES crowd (number),
    at    REAL NOT NULL,
    units INTEGER NOT NULL,
    PRIMARY KEY (crowd, at)
) STRICT, WITHOUT ROWID;

-- The lineups in which runs stand, under each crowd that may stop them. A lineupup without runs goes when it is looked at.
CREATE TABLE lineup (
    crowd INTEGER NOT NULL REFERENCES crowd (number),
    lineup  TEXT NOT NULL,
    rank  INTEGER NOT NULL,               -- minus the highest priority that stands there
    turn  INTEGER NOT NULL,               -- since when no run of it was let in
    PRIMARY KEY (crowd, lineup)
) STRICT, WITHOUT ROWID;

CREATE INDEX lineup_turn ON lineup (crowd, rank, turn, lineup);

-- Crowds in which there may be room for those who wait.
CREATE TABLE freed (
    crowd INTEGER PRIMARY KEY
) STRICT;

-- Whoever ends a run, and however, gives its places back in the same transaction; whoever queues it again puts it in its lineup.
CREATE TRIGGER run_left AFTER UPDATE OF status ON run
WHEN new.lineup IS NOT NULL AND new.status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND old.status IN ('QUEUED', 'RUNNING')
BEGIN
    INSERT OR IGNORE INTO freed SELECT crowd FROM place WHERE run = new.number;
    UPDATE place SET state = NULL WHERE run = new.number;
    UPDATE run SET gate = 2 WHERE number = new.number AND gate < 2;
END;

CREATE TRIGGER run_back AFTER UPDATE OF status ON run
WHEN new.lineup IS NOT NULL AND new.status IN ('QUEUED', 'RUNNING') AND old.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
BEGIN
    UPDATE place SET state = 0 WHERE run = new.number;
    UPDATE run SET gate = 0 WHERE number = new.number;
    INSERT OR IGNORE INTO lineup SELECT crowd, new.lineup, -new.priority, (SELECT coalesce(max(seq), 0) FROM journal)
    FROM place WHERE run = new.number;
    INSERT OR IGNORE INTO freed SELECT crowd FROM place WHERE run = new.number;
END;

-- Tasks of which no queued run is claimed.
CREATE TABLE pause (
    task TEXT PRIMARY KEY,
    at   REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- Which run has an idempotency key of its task.
CREATE TABLE idempotency (
    task       TEXT NOT NULL,
    key        TEXT NOT NULL,
    run        INTEGER NOT NULL REFERENCES run (number),
    expires_at REAL,                      -- NULL: never
    statuses   TEXT,                      -- JSON list: it holds while the run's status is one of them; NULL: whatever it is
    PRIMARY KEY (task, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_run ON idempotency (run);

-- Runs to come: at every tick of a cron expression, or once.
CREATE TABLE schedule (
    id          TEXT PRIMARY KEY,
    task        TEXT NOT NULL,
    name        TEXT NOT NULL,            -- a cron's name, '' for a single run
    expression  TEXT,                     -- NULL: once
    timezone    TEXT NOT NULL,
    catch_up    TEXT NOT NULL CHECK (catch_up IN ('skip', 'last', 'all')),
    is_declared INTEGER NOT NULL,         -- by the task's own on_crons
    input       ANY NOT NULL,
    metadata    TEXT NOT NULL,
    priority    INTEGER,
    home        TEXT NOT NULL,
    created_at  REAL NOT NULL,
    due_at      REAL,                     -- NULL: it has fired, or never will
    fired_at    REAL,                     -- the last tick that was dealt with
    run         INTEGER REFERENCES run (number),  -- that it started last
    error       TEXT                      -- why its last tick started none
) STRICT;

CREATE UNIQUE INDEX schedule_name ON schedule (task, name, is_declared) WHERE expression IS NOT NULL;
CREATE INDEX schedule_run ON schedule (run) WHERE run IS NOT NULL;
CREATE INDEX schedule_due ON schedule (due_at, task, home) WHERE due_at IS NOT NULL;

-- Transitions of runs, in order: what the current state of `run` follows from.
CREATE TABLE journal (
    seq  INTEGER PRIMARY KEY,
    run  INTEGER NOT NULL REFERENCES run (number),
    at   REAL NOT NULL,
    kind TEXT NOT NULL,
    data TEXT                             -- JSON
) STRICT;

CREATE INDEX journal_run ON journal (run, seq);

-- What a task said with ctx.log; in a notebook also what it printed, logged and warned of.
CREATE TABLE line (
    seq     INTEGER PRIMARY KEY,
    run     INTEGER NOT NULL REFERENCES run (number),
    attempt INTEGER NOT NULL,
    at      REAL NOT NULL,
    level   TEXT NOT NULL,
    line    INTEGER,                      -- of the task's source
    text    TEXT NOT NULL
) STRICT;

CREATE INDEX line_run ON line (run, seq);

-- What a task streamed with ctx.put_stream.
CREATE TABLE chunk (
    seq     INTEGER PRIMARY KEY,
    run     INTEGER NOT NULL REFERENCES run (number),
    attempt INTEGER NOT NULL,
    at      REAL NOT NULL,
    data    ANY NOT NULL                  -- TEXT or BLOB
) STRICT;

CREATE INDEX chunk_run ON chunk (run, seq);

-- Where payloads stand that refer to rows of `payload` or `artifact`: what nothing refers to is found without reading the rest.
CREATE INDEX run_kept_input ON run (number) WHERE typeof(input) = 'blob' OR substr(input, 1, 1) = ' ';
CREATE INDEX run_kept_output ON run (number) WHERE typeof(output) = 'blob' OR substr(output, 1, 1) = ' ';
CREATE INDEX checkpoint_kept ON checkpoint (run) WHERE typeof(outcome) = 'blob' OR substr(outcome, 1, 1) = ' ';
CREATE INDEX history_kept ON history (run) WHERE typeof(input) = 'blob' OR substr(input, 1, 1) = ' ';
CREATE INDEX question_kept ON question (run) WHERE typeof(text) = 'blob' OR substr(text, 1, 1) = ' ';
CREATE INDEX wait_kept ON wait (run) WHERE typeof(data) = 'blob' OR substr(data, 1, 1) = ' ';
CREATE INDEX event_kept ON event (seq) WHERE typeof(payload) = 'blob' OR substr(payload, 1, 1) = ' ';
CREATE INDEX schedule_kept ON schedule (id) WHERE typeof(input) = 'blob' OR substr(input, 1, 1) = ' ';

-- Public views: their columns stay what they are.
CREATE VIEW v_runs AS
SELECT run.id, run.number, run.task, run.kind, run.version, run.status, run.is_evicted, run.blocked_reason, parent.id AS parent_id,
       CASE typeof(run.input) WHEN 'blob' THEN (SELECT body FROM payload WHERE hash = run.input) ELSE run.input END AS input,
       CASE typeof(run.output) WHEN 'blob' THEN (SELECT body FROM payload WHERE hash = run.output) ELSE run.output END AS output,
       run.error, run.metadata, run.key, run.priority, run.retry_count, run.invocation_count, run.home,
       datetime(run.deadline, 'unixepoch') AS deadline, datetime(run.cancelled_at, 'unixepoch') AS cancelled_at,
       datetime(run.created_at, 'unixepoch') AS created_at, datetime(run.started_at, 'unixepoch') AS started_at,
       datetime(run.finished_at, 'unixepoch') AS finished_at
FROM run LEFT JOIN run AS parent ON parent.number = run.parent;

CREATE VIEW v_checkpoints AS
SELECT run.id AS run_id, run.task, checkpoint.branch, checkpoint.node, checkpoint.kind, checkpoint.ask, checkpoint.line, checkpoint.seq,
       child.id AS child_id, checkpoint.abandoned > 0 AS abandoned,
       CASE typeof(checkpoint.outcome) WHEN 'blob' THEN (SELECT body FROM payload WHERE hash = checkpoint.outcome)
            ELSE checkpoint.outcome END AS outcome,
       checkpoint.error, datetime(checkpoint.asked_at, 'unixepoch') AS asked_at,
       datetime(checkpoint.recorded_at, 'unixepoch') AS recorded_at
FROM checkpoint JOIN run ON run.number = checkpoint.run LEFT JOIN run AS child ON child.number = checkpoint.child;

CREATE VIEW v_waits AS
SELECT run.id AS run_id, run.task, wait.branch, wait.node, wait.kind, wait.name, wait.key, wait.scope, wait.expression,
       datetime(wait.due_at, 'unixepoch') AS due_at, wait.filter_error
FROM wait JOIN run ON run.number = wait.run WHERE wait.matched_at IS NULL;
