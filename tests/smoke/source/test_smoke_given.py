"""Unused variables of a container, and variables that only look unused."""

import json
from typing import Any

import pytest

from smoke.source.infrastructure.addresses import names_of_secrets, unfit
from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.infrastructure.starting import generated, partless
from smoke.source.terraform.references import items
from smoke.source.terraform.values import Value, decoded
from tests.smoke.source.terraform_files import Read, service

SECRET = 'resource "aws_secretsmanager_secret" "db" { name = "p/finn/db" }\nvariable "unset" {}\n'


def wrong(read: Read, environment: str) -> list[str]:
    """What is wrong with an environment, in Terraform, of a container; another one has a secret KEY."""
    task = f"""
resource "aws_ecs_task_definition" "finn" {{
  family                = "finn"
  container_definitions = jsonencode([{{ name = "finn", environment = {environment} }}])
}}
"""
    configuration = read(SECRET, task, service("dixie"))
    defined = read_definitions(configuration, ["finn", "dixie"])
    (found,) = configuration.of_type("aws_ecs_task_definition")[:1]
    whole = decoded(found.attribute("container_definitions") or Value("[]", found.at))
    (container,) = items(whole)
    listed: Value = container.content["environment"]
    given: dict[str, Any] = {
        pair.content["name"].content: pair.content["value"]
        for pair in items(listed)
        if "value" in pair.content
    }
    return [what for what, _ in unfit("finn", listed, given, names_of_secrets(defined))]


def env(**given: str) -> str:
    return "[" + ", ".join(f'{{ name = "{name}", value = {value} }}' for name, value in given.items()) + "]"


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ('[{ name = "A", value = "1" }, { name = "A", value = "2" }]', "A of finn has two values"),
        (env(DATABASE_URL='"postgres://finn:s3cret@db:5432/finn"'), "DATABASE_URL of finn has a password"),
        (env(BROKER='"amqps://u:pw0rd@mq.example.org"'), "BROKER of finn has a password in plain text"),
        (env(DATABASE_URL="aws_secretsmanager_secret.db.arn"), "DATABASE_URL of finn is the ARN"),
        (env(URL='"http://dixie.$${local.zone}:3001"'), "URL of finn contains ${local.zone}, which nothing"),
        (env(URL='"http://{aws_lb.main.dns_name}"'), "URL of finn contains {aws_lb.main.dns_name}, which"),
        (env(KEY='"arn:aws:secretsmanager:us-east-1:1:secret:p/k-aBcDeF"'), "KEY of finn is the ARN"),
    ],
)
def test_a_useless_variable_is_found(read: Read, environment: str, found: str) -> None:
    (what,) = wrong(read, environment)
    assert what.startswith(found)
    assert "s3cret" not in what


@pytest.mark.parametrize(
    "environment",
    [
        '[{ name = "A", value = "1" }, { name = "A", value = "1" }]',
        '[{ name = "A", value = "1" }, { name = "A", value = var.unset }]',
        'var.unset == "x" ? [{ name = "A", value = "1" }] : [{ name = "A", value = "2" }]',
        env(DATABASE_URL='"postgres://finn@db:5432/finn"'),
        env(DATABASE_URL='"postgres://finn:$${DB_PASSWORD}@db:5432/finn"'),  # its entry point fills it in
        env(DATABASE_URL='"postgres://finn:${var.unset}@db:5432/finn"'),
        env(BROKER='"amqp://guest:guest@localhost:5672"'),  # a container beside it
        env(FINN_URL='"http://finn.p.local:3000"', TIME='"12:30@noon"'),
        env(DATABASE_SECRET="aws_secretsmanager_secret.db.arn"),  # which the program reads itself
        env(DATABASE_URL_SECRET_ARN="aws_secretsmanager_secret.db.arn"),
        env(QUEUE_URL="aws_sqs_queue.q.url"),
        env(GREETING='"Hello {data.name}, {each.title} of $${data.team}, {local.time}"'),  # its own templates
    ],
)
def test_a_variable_that_only_looks_so_is_not(read: Read, environment: str) -> None:
    assert wrong(read, environment) == []


KEY = """
resource "aws_secretsmanager_secret" "k" {{ name = "p/finn/es256-private-key" }}
resource "aws_secretsmanager_secret_version" "k" {{
  secret_id     = aws_secretsmanager_secret.k.id
  secret_string = {string}
{more}}}
variable "pem" {{}}
resource "random_password" "k" {{ length = 20 }}
resource "random_id" "k" {{ byte_length = 20 }}
"""
WHOLE = {"schemaVersion": 1, "activeKid": "k1", "privateKey": "${var.pem}"}


@pytest.mark.parametrize(
    ("string", "more", "wrong"),
    [
        (f"jsonencode({json.dumps(WHOLE)})", "", ""),
        (f"jsonencode({json.dumps(WHOLE | {'pendingKid': 'k2'})})", "", ""),
        ("var.pem", "", ""),
        ("jsonencode({})", "", ""),  # a bootstrap fills it in
        ("jsonencode({ privateKey = var.pem })", "  lifecycle { ignore_changes = [secret_string] }\n", ""),
        ("jsonencode({ schemaVersion = 1, privateKey = var.pem })", "", "JSON without activeKid"),
        ('jsonencode({ kid = "k", key = var.pem })', "", "JSON without activeKid and privateKey"),
        (f"jsonencode({json.dumps(WHOLE | {'schemaVersion': '1'})})", "", 'the schemaVersion "1", not 1'),
        (f"jsonencode({json.dumps(WHOLE | {'schemaVersion': 2})})", "", "the schemaVersion 2, not 1"),
        (f"jsonencode({json.dumps(WHOLE | {'schemaVersion': '${var.pem}'})})", "", ""),
        ("random_password.k.result", "", "is random_password.k, which is not a key"),
        (f"jsonencode({json.dumps(WHOLE | {'privateKey': '${random_id.k.hex}'})})", "", "is random_id.k"),
        ("random_password.k.result", "  lifecycle { ignore_changes = [secret_string] }\n", ""),
    ],
)
def test_a_key_is_what_the_contract_demands(read: Read, string: str, more: str, wrong: str) -> None:
    found = list(generated(read(KEY.format(string=string, more=more)), ["p/finn/es256-private-key"]))
    assert [wrong in each.what for each in found] == [True] * bool(wrong), found


@pytest.mark.parametrize(
    ("member", "string", "more", "wrong"),
    [
        ("url", 'jsonencode({ url = "x" })', "", ""),
        ("url", "var.pem", "", ""),
        ("url", 'jsonencode({ uri = "x" })', "  lifecycle { ignore_changes = [secret_string] }\n", ""),
        ("url", 'jsonencode(merge({ uri = "x" }, var.pem))', "", ""),
        ("", '"postgres://finn@db/finn"', "", ""),
        ("url", 'jsonencode({ uri = "x" })', "", "for url, but its JSON has only uri"),
        ("url", "random_password.k.result", "", "for url, but it is not JSON"),
        ("url", '"postgres://finn:${random_password.k.result}@db/finn"', "", "for url, but it is not JSON"),
        ("url", '"{ \\"url\\": ${var.pem} }"', "", ""),
    ],
)
def test_a_task_asks_for_what_a_secret_has(
    read: Read, member: str, string: str, more: str, wrong: str
) -> None:
    secret = KEY.format(string=string, more=more).replace("es256-private-key", "db-url")
    task = f"""
resource "aws_ecs_task_definition" "finn" {{
  container_definitions = jsonencode([{{ name = "finn", secrets = [
    {{ name = "URL", valueFrom = "${{aws_secretsmanager_secret.k.arn}}:{member}::" }}
  ] }}])
}}
"""
    configuration = read(secret, task)
    found = list(partless(configuration, read_definitions(configuration, ["finn"])))
    assert [wrong in each.what for each in found] == [True] * bool(wrong), found


@pytest.mark.parametrize(("member", "count"), [("privateKey", 0), ("pendingKid", 0), ("private_key", 1)])
def test_a_signing_key_has_the_members_of_the_contract(read: Read, member: str, count: int) -> None:
    configuration = read(service("finn").replace(":key::", f":{member}::"))
    found = list(partless(configuration, read_definitions(configuration, ["finn"])))
    assert len(found) == count
