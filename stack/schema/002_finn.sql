-- Finn: spent tokens and the reports that it still owes to Dixie.

CREATE TABLE finn.spent_tokens (
    issuer     text NOT NULL,
    jti        text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, jti)
);

CREATE TABLE finn.outbox (
    event_id        uuid PRIMARY KEY,
    payload         text NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now()
);
