"""Addresses in a task's variables: a wrong one is a finding; a value that is not understood is not."""

from dataclasses import replace

import pytest

from smoke.source.infrastructure.addresses import Directory, is_mixed_up, led
from smoke.source.infrastructure.databases import Budget, served
from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.infrastructure.starting import generated
from tests.smoke.source.terraform_files import Read, service

ZONE = "arrakis-staging.local"
HERE = Directory(
    "arrakis-staging",
    {f"finn.{ZONE}": {3000}, f"dixie.{ZONE}": {3001}, f"pgbouncer.{ZONE}": {6432}, f"freeside.{ZONE}": ()},
    ["staging.api.arrakis.community", "dixie.staging.arrakis.community"],
    lambda host: host == f"redis.{ZONE}",
    {"pgbouncer": {"POOL_MODE": "transaction"}},
    {
        "pgbouncer": Budget.of(
            {"total": 85, "freeside": 30, "dixie": 20, "finn": 15, "admin": 10, "buffer": 10}
        )
    },
    {f"finn.{ZONE}": "/.well-known/jwks.json"},
    {f"finn.{ZONE}": {3000}},
)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"FINN_BASE_URL": "http://finn.arrakis-production.local:3000"}, "another environment's"),
        ({"HOOK_SECRET": "arrakis-production/worker/webhook"}, "another environment's secret"),
        (
            {"HOOK": "arn:aws:ssm:us-east-1:1:parameter/arrakis-production/hook"},
            "another environment's secret",
        ),
        ({"DIXIE_URL": "https://dixie.arrakis.community/x"}, "another environment's"),
        ({"API": "production.api.arrakis.community"}, "another environment's"),
        ({"ISSUER_JWKS_URL": "https://api.arrakis.community/jwks.json"}, "another environment's"),
        ({"DB_HOST": "arrakis-production-postgres.c1.us-east-1.rds.amazonaws.com"}, "another environment's"),
        ({"DB": "postgres://u@arrakis-dev.proxy-c1.us-east-1.rds.amazonaws.com/x"}, "another environment's"),
        ({"FINN_BASE_URL": f"http://finn.{ZONE}:3001"}, "listens on port 3000"),
        ({"A_URL": f"postgres://u@pgbouncer.{ZONE}:5432/db"}, "listens on port 6432"),
        ({"DB_HOST": f"pgbouncer.{ZONE}", "DB_PORT": "5432"}, "listens on port 6432"),
        ({"DB_HOST": f"pgbouncer.{ZONE}", "DB_PORT": "6432"}, "the pooler itself instead of the database"),
        ({"DATABASE_URL": f"postgres://u@pgbouncer.{ZONE}:6432/x"}, "the pooler itself"),
        ({"PEERS": f"finn.{ZONE}:3000,dixie.{ZONE}:3000"}, "listens on port 3001"),
        ({"FINN_BASE_URL": f"http://dixie.{ZONE}:3001"}, "not finn"),
        ({"FINN_BASE_URL": f"https://finn.{ZONE}:3000/x"}, "it speaks plain HTTP there"),
        ({"ANY": f"fin.{ZONE}"}, "no service has this name"),
        ({"KEY": "-----BEGIN PRIVATE KEY-----\nMC4CAQ"}, "KEY of pgbouncer is a private key in plain text"),
        ({"KEY": '{"pem": "-----BEGIN EC PRIVATE KEY-----\\nMHcC"}'}, "is a private key in plain text"),
        ({"KEY": "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1D"}, "is a private key in plain text"),
        ({"KEY": '{"kty": "EC", "crv": "P-256", "d": "870MB6gfuTJ4HtUnUvYMyJpr5eU"}'}, "is a private key"),
        (
            {"JWKS_URL": f"http://finn.{ZONE}:3000/jwks.json"},
            "key set is at /.well-known/jwks.json, not at /jwks",
        ),
        (
            {"FINN_JWKS_URI": f"http://finn.{ZONE}:3000/.well-known/jwks"},
            "key set is at /.well-known/jwks.json",
        ),
        ({"PORT": "3001"}, "listens on port 3000 and port 6432"),
        ({"POOL_MODE": "session"}, "not transaction"),
        ({"DEFAULT_POOL_SIZE": "60"}, "180 connections, but the plan allows 65"),
        ({"DEFAULT_POOL_SIZE": "60", "MAX_DB_CONNECTIONS": "180"}, "180 connections"),
        ({"DEFAULT_POOL_SIZE": "15", "RESERVE_POOL_SIZE": "10"}, "75 connections"),
        ({"PGBOUNCER_DEFAULT_POOL_SIZE": "25"}, "75 connections"),
        (
            {"DEFAULT_POOL_SIZE": "15", "MAX_CLIENT_CONN": "5"},
            "MAX_CLIENT_CONN of pgbouncer is 5, but one pool may have 15 connections",
        ),
        ({"DEFAULT_POOL_SIZE": "15", "PGBOUNCER_MAX_CLIENT_CONN": "0"}, "is 0, but one pool"),
        ({"DEFAULT_POOL_SIZE": "0"}, "its pools open no connections"),
    ],
)
def test_what_leads_elsewhere_is_a_finding(given: dict[str, str], why: str) -> None:
    """One finding, and it says why."""
    (found,) = HERE.wrong("pgbouncer", given, {3000, 6432})
    assert why in found


@pytest.mark.parametrize(
    "given",
    [
        {"HOOK_SECRET": "arrakis-staging/worker/webhook"},
        {"JWKS_CORS_ORIGINS": "https://api.arrakis.community"},
        {"REPOSITORY": "arrakis-dev/finn", "LOG_PREFIX": "/arrakis-production/shared"},
        {"DOCS": "https://example.org/arrakis-production/guide"},
        {"FINN_BASE_URL": f"http://finn.{ZONE}:3000", "DIXIE_URL": "https://dixie.staging.arrakis.community"},
        {"FREESIDE": f"http://freeside.{ZONE}:8080", "CACHE": f"redis://redis.{ZONE}:6379/0"},
        {"DIXIE_FINN_URL": f"http://finn.{ZONE}:3000", "FINN_HOST": f"FINN.{ZONE}", "FINN_PORT": "3000"},
        {"SENTRY": "https://key@o1.ingest.sentry.io/2", "VERSION": "1.2.3", "NAME": "arrakis-production"},
        {"DB_HOST": "${aws_db_instance.main.address}", "OTHER": "arrakis-staging-2.local"},
        {"POOL_MODE": "transaction", "PORT": "3000"},
        {"PUBLIC_URL": f"postgres://pgbouncer.{ZONE}:6432", "DB_HOST": f"redis.{ZONE}"},
        {"KEY": "-----BEGIN PUBLIC KEY-----\nMC4CAQ", "CERTIFICATE": "-----BEGIN CERTIFICATE-----"},
        {"FINN_JWKS_URL": f"http://finn.{ZONE}:3000/.well-known/jwks.json?v=1"},
        {"FINN_JWKS_URL": f"http://finn.{ZONE}:3000"},
        {"DIXIE_URL": f"https://dixie.{ZONE}:3001", "FINN_URL": f"finn.{ZONE}:3000"},
        {"KEY": '{"kty": "EC", "crv": "P-256", "x": "870MB6gfuTJ4Ht"}', "B": "LS0tLS1CRUdJTiBQVUJMSUMg"},
        {"DIXIE_JWKS_URL": f"http://dixie.{ZONE}:3001/keys", "FINN_URL": f"http://finn.{ZONE}:3000/v2"},
        {"DB_HOST": "arrakis-staging-postgres.c1.us-east-1.rds.amazonaws.com"},
        {"DB_HOST": "arrakis-postgres.c1.us-east-1.rds.amazonaws.com"},
        {"MEDIA": "arrakis-production.s3.amazonaws.com"},
        {"DEFAULT_POOL_SIZE": "60", "MAX_DB_CONNECTIONS": "65"},
        {"DEFAULT_POOL_SIZE": "60", "MAX_DB_CONNECTIONS": "${var.most}"},
        {"DEFAULT_POOL_SIZE": "60", "MAX_USER_CONNECTIONS": "15"},
        {"MAX_DB_CONNECTIONS": "180"},
        {"DEFAULT_POOL_SIZE": "15", "MAX_CLIENT_CONN": "15"},
        {"DEFAULT_POOL_SIZE": "15", "MAX_CLIENT_CONN": "5", "MAX_DB_CONNECTIONS": "4"},
        {"DEFAULT_POOL_SIZE": "0", "RESERVE_POOL_SIZE": "5"},
        {"DEFAULT_POOL_SIZE": "0", "PGBOUNCER_DSN_0": "app=host=db port=5432 pool_size=10"},
        {"MAX_CLIENT_CONN": "5"},
        {"CORS_ORIGINS": "https://staging.api.arrakis.community,https://api.arrakis.community"},
        {"FINN_CALLBACK_URL": f"http://freeside.{ZONE}:3000/callback"},
    ],
)  # fmt: skip
def test_own_addresses_and_values_not_understood_are_no_findings(given: dict[str, str]) -> None:
    """Own hosts on their ports, other hosts, and values that are not addresses."""
    assert not list(HERE.wrong("pgbouncer", given, {3000}))


@pytest.mark.parametrize(
    ("given", "ports"),
    [
        ({"DATABASE_URL": f"postgres://stats@pgbouncer.{ZONE}:6432/x"}, set()),
        ({"DATABASE_URL": f"postgres://stats@pgbouncer.{ZONE}:6432/pgbouncer"}, {6432}),
        ({"SERVER_HOST": f"pgbouncer.{ZONE}"}, {6432}),
    ],
)
def test_a_pooler_may_be_asked_beside_it_and_know_its_own_name(
    given: dict[str, str], ports: set[int]
) -> None:
    assert not list(HERE.wrong("pgbouncer", given, ports))


def test_a_prefix_without_an_environment_says_nothing_about_others() -> None:
    """Then, another word after the stem is not another environment."""
    here = Directory("arrakis", {}, ["api.arrakis.community"], lambda _: True)
    assert not list(here.wrong("api", {"URL": "http://finn.arrakis-production.local"}))


@pytest.mark.parametrize(
    ("name", "value", "alone", "found"),
    [
        ("FINN_BASE_URL", "http://localhost:3000", True, True),
        ("FINN_HOST", "127.0.0.1", True, True),
        ("FINN_BASE_URL", "http://localhost:3000", False, False),
        ("FINN_BASE_URL", "http://localhost.example.org", True, False),
        ("FINN_CALLBACK_URL", "http://localhost:3000", True, False),
        ("OTEL_ENDPOINT", "http://localhost:4317", True, False),
    ],
)
def test_a_task_of_one_container_has_no_other_service(
    name: str, value: str, alone: bool, found: bool
) -> None:
    assert bool(list(HERE.wrong("pgbouncer", {name: value}, alone=alone))) == found


@pytest.mark.parametrize(
    ("name", "reference", "mixed_up"),
    [
        ("DATABASE_URL", "p/finn/es256-private-key", True),
        ("DB_URL", "arn:aws:x:secret:p/es256-private-key-AbCdEf::A:", True),
        ("DATABASE_URL", "p/finn/db-url", False),
        ("ES256_PRIVATE_KEY", "p/finn/es256-private-key", False),
        ("DATABASE_KEY", "p/finn/es256-private-key", False),
        ("DATABASE_URL", "${aws_secretsmanager_secret.it.arn}", False),
    ],
)  # fmt: skip
def test_a_signing_key_is_not_an_address(name: str, reference: str, mixed_up: bool) -> None:
    assert is_mixed_up(name, reference) == mixed_up


@pytest.mark.parametrize(
    ("behind", "wrong"),
    [
        ("", False), (":key::", False), (":::", False), (":key:AWSCURRENT:", False), ("${var.behind}", False),
        (":key:${var.behind}:", False), (":key", True), (":key:", True), (":", True),
    ],
)  # fmt: skip
def test_a_secret_is_given_with_all_that_is_behind_its_arn(read: Read, behind: str, wrong: bool) -> None:
    configuration = read('variable "behind" {}', service("finn").replace(":key::", behind))
    found = led(configuration, read_definitions(configuration, ["finn"]), HERE, "")[1].findings
    assert ["KEY of finn is incomplete" in each.what for each in found] == [True] * wrong, found


@pytest.mark.parametrize(
    ("behind", "wrong"),
    [(":privateKey::", False), (":pendingPrivateKey::", False), (":activeKid::", True)],
)
def test_a_private_key_is_not_another_part_of_its_secret(read: Read, behind: str, wrong: bool) -> None:
    text = service("finn").replace(":key::", behind).replace('"KEY"', '"ES256_PRIVATE_KEY"')
    configuration = read(text)
    found = led(configuration, read_definitions(configuration, ["finn"]), HERE, "")[1].findings
    assert ["a part of its secret that is not a key" in each.what for each in found] == [True] * wrong


@pytest.mark.parametrize(
    ("secret", "region", "wrong"),
    [
        ("us-east-1:1:secret:arrakis-staging/finn/key-AbCdEf", "us-east-1", False),
        ("eu-west-1:1:secret:shared/datadog-AbCdEf", "us-east-1", False),
        ("eu-west-1:1:secret:arrakis-staging/finn/key-AbCdEf", "", False),
        ("eu-west-1:1:secret:arrakis-staging/finn/key-AbCdEf", "us-east-1", True),
    ],
)
def test_a_secret_of_this_environment_is_in_the_region_of_its_tasks(
    read: Read, secret: str, region: str, wrong: bool
) -> None:
    given = service("finn").replace(
        "${aws_secretsmanager_secret.finn.arn}", f"arn:aws:secretsmanager:{secret}"
    )
    configuration = read(given)
    found = led(configuration, read_definitions(configuration, ["finn"]), HERE, region)[1].findings
    assert ["KEY of finn is read in eu-west-1" in each.what for each in found] == [True] * wrong


SECRETS = """
variable "unset" {}
resource "tls_private_key" "one" {
  algorithm   = "ECDSA"
  ecdsa_curve = "P256"
}
resource "aws_secretsmanager_secret" "finn" { name = "p/finn/es256-private-key" }
resource "aws_secretsmanager_secret" "dixie" { name = "p/dixie/es256-private-key" }
resource "aws_secretsmanager_secret_version" "finn" {
  secret_id     = aws_secretsmanager_secret.finn.id
  secret_string = VALUE
}
"""
DIXIE = """
resource "tls_private_key" "two" {
  algorithm   = "ECDSA"
  ecdsa_curve = "P256"
}
resource "aws_secretsmanager_secret_version" "dixie" {
  secret_id     = aws_secretsmanager_secret.dixie.id
  secret_string = tls_private_key.two.private_key_pem_pkcs8
}
"""
GIVEN = "tls_private_key.one.private_key_pem_pkcs8"
IN_JSON = (
    f'jsonencode({{ activeKid = "a", privateKey = {GIVEN}, publicKey = tls_private_key.one.public_key_pem }})'
)


@pytest.mark.parametrize(
    ("value", "edits", "more", "what"),
    [
        (GIVEN, {}, DIXIE, ""),
        (IN_JSON, {}, "", ""),
        ('"PLACEHOLDER"', {"P256": "P384"}, "", ""),
        ("var.unset", {"P256": "P384"}, "", ""),
        ("trimspace(tls_private_key.one.public_key_pem)", {}, "", ""),
        (GIVEN, {'"P256"': "var.unset"}, "", ""),
        (GIVEN, {"p/finn/es256-private-key": "p/finn/tls-key", "P256": "P384"}, "", ""),
        (f"{GIVEN}\n  lifecycle {{\n    ignore_changes = [secret_string]\n  }}", {"P256": "P384"}, "", ""),
        (GIVEN, {"P256": "P384"}, "", "is P384, not P-256"),
        (IN_JSON, {"P256": "P384"}, "", "is P384, not P-256"),
        (GIVEN, {'  ecdsa_curve = "P256"\n': ""}, "", "is P224, not P-256"),
        (GIVEN, {"ECDSA": "RSA"}, "", "is RSA, not P-256"),
        ("tls_private_key.one.private_key_pem", {}, "", "stored as private_key_pem, not as PKCS#8"),
        ("tls_private_key.one.public_key_pem", {}, "", "stored as public_key_pem, not as PKCS#8"),
        (f'{GIVEN}\n  version_stages = ["AWSPENDING"]', {"P256": "P384"}, "", ""),
        (GIVEN, {}, DIXIE.replace("key.two", "key.one"), "share one key, tls_private_key.one"),
    ],
)  # fmt: skip
def test_a_key_that_terraform_creates_fits_the_contract(
    read: Read, value: str, edits: dict[str, str], more: str, what: str
) -> None:
    text = SECRETS.replace("VALUE", value) + more
    for find, replacement in edits.items():
        assert find in text
        text = text.replace(find, replacement, 1)
    names = ["p/finn/es256-private-key", "p/dixie/es256-private-key"]
    found = [each.what for each in generated(read(text), names)]
    assert [what in each for each in found] == [True] * bool(what), found


SERVED = """
variable "unset" {}
resource "aws_db_instance" "main" {
  identifier           = "p-postgres"
  engine               = "postgres"
  engine_version       = "15.10"
  parameter_group_name = aws_db_parameter_group.main.name
}
resource "aws_db_parameter_group" "main" {
  name   = "p"
  family = "postgres15"
  parameter {
    name  = "PARAMETER"
    value = SET
  }
}
resource "aws_ecs_task_definition" "pgbouncer" {
  family                = "p-pgbouncer"
  container_definitions = jsonencode([{ name = "pgbouncer", image = "x", environment = [
    { name = "DB_HOST", value = WHERE }, GIVEN
  ] }])
}
"""
ADDRESS = "aws_db_instance.main.address"
#: A cluster in place of the instance, with a group of its own.
CLUSTERED = {
    'aws_db_instance" "main': 'aws_rds_cluster" "main',
    '"postgres"': '"aurora-postgresql"',
    "  parameter_group_name": "  db_cluster_parameter_group_name",
    "aws_db_parameter_group.main.name": "aws_rds_cluster_parameter_group.main.name",
    'aws_db_parameter_group" "main': 'aws_rds_cluster_parameter_group" "main',
    "aws_db_instance.main.address": '"localhost"',
}
LEFT_ALONE = "  lifecycle {\n    ignore_changes = [engine_version]\n  }"
OTHER_PORT = '{ name = "DB_PORT", value = "5433" }'
POOLS = '{ name = "POOL_MODE", value = "transaction" }'
IN_URL = '{ name = "REPORTS", value = "postgres://u@${aws_db_instance.main.endpoint}/x?sslmode=disable" }'
PLAIN = '{ name = "SERVER_TLS_SSLMODE", value = "disable" }'


@pytest.mark.parametrize(
    ("given", "parameter", "more", "what"),
    [
        ("", ("max_connections", '"100"'), {}, ""),
        ("", ("max_connections", "var.unset"), {}, ""),
        ("", ("max_connections", '"40"'), {"p-postgres": "p-reports"}, ""),
        ("", ("max_connections", '"40"'), {}, "allows 40 connections, but the plan has a budget of 85"),
        ('{ name = "DB_PORT", value = "5432" }', ("x", '"1"'), {}, ""),
        (OTHER_PORT, ("x", '"1"'), {"main.name": "main.name\n  port = 5433"}, ""),
        (OTHER_PORT, ("x", '"1"'), {ADDRESS: '"db.example.org"'}, ""),
        (OTHER_PORT, ("x", '"1"'), {ADDRESS: f'var.unset ? {ADDRESS} : "db.example.org"'}, ""),
        ("", ("x", '"1"'), {ADDRESS: "aws_db_instance.main.endpoint"}, "is the endpoint of aws_db_instance"),
        (OTHER_PORT, ("x", '"1"'), {}, "is 5433, but aws_db_instance.main listens on"),
        (PLAIN.replace("disable", "require"), ("x", '"1"'), {}, ""),
        (PLAIN, ("rds.force_ssl", '"0"'), {}, ""),
        (PLAIN, ("x", '"1"'), {"15.10": "14.9"}, ""),
        (PLAIN, ("x", '"1"'), {"= aws_db_parameter_group.main.name": "= var.unset"}, ""),
        (PLAIN, ("x", '"1"'), {'"p-postgres"': f'"p-postgres"\n{LEFT_ALONE}'}, ""),
        (PLAIN, ("x", '"0"'), {'  name  = "x"': "  name  = var.unset"}, ""),
        ('{ name = "PGPORT", value = "6432" }', ("x", '"1"'), {}, ""),
        ('{ name = "PGHOST", value = "localhost" }, ' + PLAIN, ("x", '"1"'), {}, ""),
        (OTHER_PORT, ("x", '"1"'), {'"p-postgres"': '"p-postgres"\n  snapshot_identifier = "s"'}, ""),
        (POOLS, ("x", '"1"'), {}, ""),
        (POOLS, ("x", '"1"'), {'"postgres"': '"mysql"'}, "pools PostgreSQL connections, but"),
        (POOLS.replace("transaction", "fixed"), ("x", '"1"'), {'"postgres"': '"mysql"'}, ""),
        (PLAIN, ("x", '"1"'), {}, "accepts only TLS connections"),
        (PLAIN, ("rds.force_ssl", '"1"'), {"15.10": "14.9"}, "accepts only TLS connections"),
        (IN_URL, ("rds.force_ssl", '"1"'), {}, "REPORTS of pgbouncer has sslmode=disable"),
        (IN_URL, ("x", '"1"'), {}, "REPORTS of pgbouncer has sslmode=disable"),
        (IN_URL, ("rds.force_ssl", '"0"'), {}, ""),
        (IN_URL.replace("disable", "require"), ("rds.force_ssl", '"1"'), {}, ""),
        (IN_URL.replace("aws_db_instance.main.endpoint", "var.unset"), ("rds.force_ssl", '"1"'), {}, ""),
        (IN_URL.replace("db_instance", "rds_cluster"), ("rds.force_ssl", '"1"'), CLUSTERED, "REPORTS of"),
        (IN_URL.replace("db_instance", "rds_cluster"), ("x", '"1"'), CLUSTERED, ""),
    ],
)  # fmt: skip
def test_a_task_fits_its_database(
    read: Read, given: str, parameter: tuple[str, str], more: dict[str, str], what: str
) -> None:
    text = SERVED.replace("GIVEN", given).replace("WHERE", ADDRESS)
    text = text.replace("PARAMETER", parameter[0]).replace("SET", parameter[1])
    for find, replacement in more.items():
        assert find in text
        text = text.replace(find, replacement)
    configuration = read(text)
    defined = read_definitions(configuration, ["pgbouncer"])
    found = [each.what for each in served(configuration, defined, "p-postgres", 85)]
    assert [what in each for each in found] == [True] * bool(what), found


@pytest.mark.parametrize(
    ("name", "value", "open_"),
    [
        ("FINN_BASE_URL", "http://finn.app.internal:3000", True),
        ("FINN_HOST", "finn.corp", True),
        ("FINN_BASE_URL", "http://finn.zone.internal:3000", False),
        ("FINN_BASE_URL", f"http://finn.{ZONE}:3000", False),
        ("FINN_BASE_URL", "https://internal-finn.us-east-1.elb.amazonaws.com", False),
        ("FINN_HOST", "ip-10-0-0-1.ec2.internal", False),
        ("FINN_HOST", "host.docker.internal", False),
        ("CACHE_URL", "redis://cache.app.internal:6379", False),
        ("FINN_BASE_URL", "http://finn:3000", True),
        ("FINN_BASE_URL", "http://connected:3000", False),
        ("FINN_BASE_URL", "http://localhost:3000", False),
        ("CACHE_URL", "redis://cache:6379", False),
    ],
)
def test_a_service_in_a_zone_that_nothing_has_is_not_examined(name: str, value: str, open_: bool) -> None:
    here = replace(HERE, zones={"zone.internal", "connected"})
    assert bool([*here.unresolved("api", {name: value})]) == open_
    searched = replace(HERE, zones={"zone.internal", "."})
    assert bool([*searched.unresolved("api", {name: value})]) == (open_ and "finn:" not in value)
