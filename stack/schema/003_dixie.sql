-- Dixie: reputation events and the score that they add up to.

CREATE TABLE dixie.spent_tokens (
    issuer     text NOT NULL,
    jti        text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, jti)
);

CREATE TABLE dixie.aggregates (
    agent_id text PRIMARY KEY,
    score    double precision NOT NULL CHECK (score BETWEEN 0 AND 1),
    events   bigint NOT NULL DEFAULT 0
);

CREATE TABLE dixie.events (
    event_id    uuid PRIMARY KEY,
    agent_id    text NOT NULL,
    collection  text NOT NULL,
    score       double precision NOT NULL,
    weight      double precision NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);
