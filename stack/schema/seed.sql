-- The tenants and agents that environments/local.toml names.

INSERT INTO freeside.communities (community_id, limit_micro) VALUES
    ('test-community-staging-001', 500000000),
    ('test-community-staging-002', 500000000),
    ('test-community-staging-003', 50000)
ON CONFLICT DO NOTHING;

INSERT INTO dixie.aggregates (agent_id, score) VALUES
    ('smoke-agent-001', 0.5),
    ('smoke-agent-002', 0.5)
ON CONFLICT DO NOTHING;
