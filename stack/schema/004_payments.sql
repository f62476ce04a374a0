-- Freeside: the payments of x402 that were taken, each by what makes it unique on the chain.

CREATE TABLE freeside.payments (
    payer      text NOT NULL,
    nonce      text NOT NULL,
    trace_id   text NOT NULL,
    settled    boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payer, nonce)
);
