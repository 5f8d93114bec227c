CREATE SCHEMA IF NOT EXISTS keyd;

-- One row. Whoever changes anything in the store locks it first, and has the lock until the change is whole.
CREATE TABLE keyd.head (
  one     boolean PRIMARY KEY DEFAULT true CHECK (one),
  schema  integer NOT NULL,
  seq     bigint NOT NULL CHECK (seq >= 0), -- of the newest entry
  hash    bytea NOT NULL CHECK (length(hash) = 32),
  epoch   bigint NOT NULL DEFAULT 0, -- of the term in force
  nonce   bytea CHECK (length(nonce) = 16),
  holder  text NOT NULL DEFAULT '', -- of the lease
  since   timestamp with time zone,
  until   timestamp with time zone,
  ttl     bigint NOT NULL DEFAULT 0, -- microseconds
  sealed  text NOT NULL DEFAULT '' -- why the store takes no changes any more
);

-- The audit chain. No two entries have one number, and no two follow the same one.
CREATE TABLE keyd.entry (
  seq   bigint PRIMARY KEY CHECK (seq > 0),
  prev  bytea NOT NULL UNIQUE CHECK (length(prev) = 32),
  hash  bytea NOT NULL CHECK (length(hash) = 32),
  body  bytea NOT NULL
);

CREATE TABLE keyd.record (
  name  text COLLATE "C" PRIMARY KEY,
  head  bytea NOT NULL CHECK (length(head) = 40), -- checksum and revision
  body  bytea NOT NULL
);

-- What is not in the chain: what hosts tell each other.
CREATE TABLE keyd.blob (
  name   text COLLATE "C" PRIMARY KEY,
  value  bytea NOT NULL
);

INSERT INTO keyd.head (schema, seq, hash) VALUES (0, 0, decode(repeat('00', 32), 'hex'));
