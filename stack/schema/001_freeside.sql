-- Freeside: money, idempotency, spent tokens and the quality outbox. Amounts are µUSD, 1 cent = 10 000.

CREATE TABLE freeside.communities (
    community_id text PRIMARY KEY,
    limit_micro  bigint NOT NULL CHECK (limit_micro >= 0)
);

-- One row per tenant and month. committed + reserved <= limit is kept by the one UPDATE that reserves.
CREATE TABLE freeside.budgets (
    community_id    text NOT NULL REFERENCES freeside.communities,
    period          text NOT NULL,
    limit_micro     bigint NOT NULL,
    committed_micro bigint NOT NULL DEFAULT 0 CHECK (committed_micro >= 0),
    reserved_micro  bigint NOT NULL DEFAULT 0 CHECK (reserved_micro >= 0),
    PRIMARY KEY (community_id, period)
);

CREATE TABLE freeside.reservations (
    reservation_id uuid PRIMARY KEY,
    community_id   text NOT NULL,
    period         text NOT NULL,
    amount_micro   bigint NOT NULL CHECK (amount_micro > 0),
    state          text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'committed', 'released')),
    expires_at     timestamptz NOT NULL
);
CREATE INDEX reservations_held ON freeside.reservations (expires_at) WHERE state = 'held';

CREATE TABLE freeside.charges (
    reservation_id uuid PRIMARY KEY REFERENCES freeside.reservations,
    community_id   text NOT NULL,
    period         text NOT NULL,
    cost_micro     bigint NOT NULL CHECK (cost_micro >= 0),
    trace_id       text NOT NULL,
    charged_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE freeside.idempotency (
    community_id text NOT NULL,
    key          text NOT NULL,
    body_hash    text NOT NULL,
    owner        uuid NOT NULL,
    lease_until  timestamptz NOT NULL,
    answer       text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (community_id, key)
);

CREATE TABLE freeside.spent_tokens (
    issuer     text NOT NULL,
    jti        text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, jti)
);

CREATE TABLE freeside.outbox (
    event_id        uuid PRIMARY KEY,
    payload         text NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now()
);
