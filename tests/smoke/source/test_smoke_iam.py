"""Policies in common styles: which let a role read another's secret, which restrict it, which are unknown."""

import pytest

from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.infrastructure.definitions import unnamed
from smoke.source.infrastructure.resource_policies import unassumable
from smoke.source.rules import OWN, SECRET, Ownership
from tests.smoke.source.terraform_files import Read, service

OWNERSHIP = Ownership({"finn": ["finn"], "dixie": ["dixie"]})
ARN = "arn:aws:secretsmanager:us-east-1:1:secret:arrakis-staging"
GET = '["secretsmanager:GetSecretValue"]'
OWN_SECRET = "[aws_secretsmanager_secret.dixie.arn]"
ROLE = 'resource "aws_iam_role" "dixie" { name = "${local.prefix}-dixie" }'
DATA = """
data "aws_partition" "p" {}
data "aws_region" "r" {}
data "aws_caller_identity" "me" {}
"""
BY_DATA = (
    "arn:${data.aws_partition.p.partition}:secretsmanager:${data.aws_region.r.name}"
    ":${data.aws_caller_identity.me.account_id}:secret:${local.prefix}"
)


def stated(resources: str, sid: str = "", effect: str = "Allow") -> str:
    return f"""
  statement {{
    sid       = "{sid}"
    effect    = "{effect}"
    actions   = {GET}
    resources = {resources}
  }}"""


def document(*parts: str, name: str = "d") -> str:
    return f'data "aws_iam_policy_document" "{name}" {{\n{"".join(parts)}\n}}\n'


def held(policy: str) -> str:
    return f'resource "aws_iam_role_policy" "p" {{\n  role = aws_iam_role.dixie.id\n  policy = {policy}\n}}\n'


def inline(*listed: str) -> str:
    return held(f"jsonencode({{ Statement = [{', '.join(listed)}] }})")


def statement(resource: str, action: str = "secretsmanager:GetSecretValue", more: str = "") -> str:
    return f'{{ Effect = "Allow", Action = "{action}", Resource = {resource}{more} }}'


OF_FINN = "aws_secretsmanager_secret.finn.arn"


def only(test: str, key: str, value: str) -> str:
    """A policy that lets its role read Finn's secret under a condition."""
    return inline(statement(OF_FINN, more=f', Condition = {{ {test} = {{ "{key}" = "{value}" }} }}'))


def role(*lines: str) -> str:
    return "\n".join([ROLE.replace(" }", ""), *lines, "}"])


def bounded(boundary: str) -> str:
    policy = f"jsonencode({{ Statement = [{boundary}] }})"
    written = f'resource "aws_iam_policy" "b" {{\n  name = "b"\n  policy = {policy}\n}}\n'
    return written + role("  permissions_boundary = aws_iam_policy.b.arn") + inline(statement('"*"'))


def attached(arn: str, more: str = "") -> str:
    return (
        f'resource "aws_iam_role_policy_attachment" "a" {{\n  {more}\n'
        f"  role = aws_iam_role.dixie.name\n  policy_arn = {arn}\n}}\n"
    )


def of_secret(principal: str, effect: str = "Allow", more: str = "") -> str:
    return f"""
resource "aws_secretsmanager_secret_policy" "s" {{
  secret_arn = aws_secretsmanager_secret.finn.arn
  policy = jsonencode({{ Statement = [{{ Effect = "{effect}", Action = "secretsmanager:GetSecretValue",
    Resource = "*", Principal = {principal}{more} }}] }})
}}
"""


DENY = '{ Effect = "Deny", Action = "secretsmanager:*", %s }'
OF_D = held("data.aws_iam_policy_document.d.json")
SOURCE, OVERRIDE = (
    f"  {name}_policy_documents = [data.aws_iam_policy_document.o.json]\n" for name in ("source", "override")
)
FOUND, UNCLEAR, NOTHING = "found", "not examined", "nothing"
CASES = {
    "a denial of all but its own": (
        inline(statement('"*"'), DENY % 'NotResource = "${aws_secretsmanager_secret.dixie.arn}*"'), NOTHING,
    ),
    "a denial of some": (
        document(stated('["*"]'), stated(f'["{ARN}/finn/*"]', effect="Deny")) + OF_D, UNCLEAR,
    ),
    "a denial of what was named": (
        inline(statement(f'"{ARN}/finn/*"'), DENY % f'Resource = "{ARN}/finn/*"'), NOTHING,
    ),
    "a second factor that no task has": (only("Bool", "aws:MultiFactorAuthPresent", "true"), NOTHING),
    "a tag that the secret has not": (only("StringEquals", "aws:ResourceTag/team", "dixie"), NOTHING),
    "a tag that is the caller's": (
        only("StringEquals", "aws:ResourceTag/team", "$${aws:PrincipalTag/team}"), FOUND,
    ),
    "a condition that may hold": (only("StringEquals", "aws:SourceVpc", "vpc-1"), FOUND),
    "a region that may be this one": (only("StringEquals", "aws:RequestedRegion", "us-west-2"), FOUND),
    "another region": (
        'provider "aws" {\n  region = "us-east-1"\n}\n'
        + only("StringLike", "aws:RequestedRegion", "us-west-*"), NOTHING,
    ),
    "a secret that lets nobody read": (inline(statement(OF_FINN)) + of_secret('"*"', "Deny"), NOTHING),
    "a secret that lets this role read": (
        inline(statement(OF_FINN)) + of_secret(
            '"*"', "Deny", ', Condition = { ArnNotEquals = { "aws:PrincipalArn" = aws_iam_role.dixie.arn } }'
        ), FOUND,
    ),
    "a denial of everything": (inline(statement('"*"'), DENY % 'Resource = "*"'), NOTHING),
    "a denial of something else": (
        inline(statement(f'"{ARN}/finn/*"'), DENY % f'Resource = "{ARN}/redis/*"'), FOUND,
    ),
    "a denial under a condition": (
        inline(
            statement('"*"'),
            DENY % 'Resource = "*", Condition = { StringNotEquals = { "aws:SourceVpc" = "vpc-1" } }',
        ), FOUND,
    ),
    "a denial of other actions": (
        inline(statement('"*"'), '{ Effect = "Deny", Action = "secretsmanager:Put*", Resource = "*" }'),
        FOUND,
    ),
    "a Sid above the source's": (
        document(SOURCE, stated(OWN_SECRET, "Read")) + document(stated('["*"]', "Read"), name="o") + OF_D,
        NOTHING,
    ),
    "a Sid of an override": (
        document(OVERRIDE, stated('["*"]', "Read")) + document(stated(OWN_SECRET, "Read"), name="o") + OF_D,
        NOTHING,
    ),
    "an override of no Sid": (
        document(OVERRIDE, stated(OWN_SECRET)) + document(stated('["*"]'), name="o") + OF_D, FOUND,
    ),
    "an older source": (
        document("  source_json = data.aws_iam_policy_document.o.json\n")
        + document(stated('["*"]'), name="o") + OF_D, FOUND,
    ),
    "a document of itself": (
        document("  source_policy_documents = [data.aws_iam_policy_document.d.json]\n") + OF_D, UNCLEAR,
    ),
    "dynamic statements": (
        document(f"""
  dynamic "statement" {{
    for_each = ["*"]
    content {{
      actions   = {GET}
      resources = [statement.value]
    }}
  }}""") + OF_D, FOUND,
    ),
    "a wildcard before its own path": (
        inline(statement('"arn:aws:secretsmanager:*:*:secret:arrakis-*/dixie/*"')), NOTHING,
    ),
    "a wildcard before another's path": (
        inline(statement('"arn:aws:secretsmanager:*:*:secret:arrakis-*/finn/*"')), FOUND,
    ),
    "wildcards for a path": (inline(statement('"arn:aws:secretsmanager:*:*:secret:*/*/es256*"')), FOUND),
    "a wildcard for the partition": (inline(statement(f'"{ARN.replace("aws", "*", 1)}/dixie/*"')), NOTHING),
    "a wildcard in an action": (inline(statement('"*"', "secretsmanager:*SecretValue")), FOUND),
    "a wildcard in another action": (inline(statement('"*"', "secretsmanager:*List*")), NOTHING),
    "an address by data, its own": (DATA + inline(statement(f'"{BY_DATA}/dixie/*"')), NOTHING),
    "an address by data, another's": (DATA + inline(statement(f'"{BY_DATA}/finn/*"')), FOUND),
    "a boundary without secrets": (bounded(statement('"*"', "logs:*")), NOTHING),
    "a boundary of its own secret": (bounded(statement("aws_secretsmanager_secret.dixie.arn")), NOTHING),
    "a boundary of another's secret": (bounded(statement("aws_secretsmanager_secret.finn.arn")), FOUND),
    "a boundary of everything": (bounded(statement('"*"', "*")), FOUND),
    "a boundary of everything but secrets": (
        bounded(f"""{statement('"*"', "*")}, {DENY % 'Resource = "*"'}"""), NOTHING,
    ),
    "a boundary elsewhere": (
        role('  permissions_boundary = "arn:aws:iam::1:policy/boundary"') + inline(statement('"*"')), UNCLEAR,
    ),
    "a boundary of AWS": (
        role('  permissions_boundary = "arn:aws:iam::aws:policy/PowerUserAccess"') + inline(statement('"*"')),
        FOUND,
    ),
    "blocks in the role": (
        role(*(
            f"  inline_policy {{\n    policy = jsonencode({{ Statement = {each} }})\n  }}"
            for each in (statement('"*"', "logs:*"), statement('"*"'))
        )), FOUND,
    ),
    "dynamic blocks in the role": (
        role(f"""  dynamic "inline_policy" {{
    for_each = {{ read = "*" }}
    content {{
      name   = inline_policy.key
      policy = jsonencode({{ Statement = [{statement("inline_policy.value")}] }})
    }}
  }}"""), FOUND,
    ),
    "attachments by a set": (
        attached("each.value", 'for_each = toset(["arn:aws:iam::aws:policy/SecretsManagerReadWrite"])'),
        FOUND,
    ),
    "a policy of AWS in its partition": (
        DATA + attached('"arn:${data.aws_partition.p.partition}:iam::aws:policy/SecretsManagerReadWrite"'),
        FOUND,
    ),
    "a harmless one in its partition": (
        DATA + attached(
            '"arn:${data.aws_partition.p.partition}:iam::aws:policy/service-role/'
            'AmazonECSTaskExecutionRolePolicy"'
        ), NOTHING,
    ),
    "a product of sets": (
        inline(statement(f'"{ARN}/${{each.value[1]}}/*"')).replace(
            "role =", 'for_each = { for p in setproduct(["x"], ["dixie", "finn"]) : p[1] => p }\n  role ='
        ), FOUND,
    ),
    "a secret open to everybody": (of_secret('"*"'), FOUND),
    "a secret open to every principal": (of_secret('{ AWS = ["*"] }'), FOUND),
    "a secret open under a condition": (
        of_secret('"*"', more=', Condition = { StringEquals = { "aws:PrincipalOrgID" = "o-1" } }'), UNCLEAR,
    ),
    "a secret left to the account's policies": (of_secret('{ AWS = "arn:aws:iam::1:root" }'), NOTHING),
    "a secret closed to everybody else": (
        of_secret('"*"', "Deny", ', Condition = { ArnNotEquals = { "aws:PrincipalArn" = "x" } }'), NOTHING,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_role_may_read_is_as_iam_decides(read: Read, name: str) -> None:
    text, expected = CASES[name]
    dixie = service("dixie")
    if 'resource "aws_iam_role" "dixie"' in text:
        dixie = dixie.replace(ROLE, "")
    found = read_definitions(read(service("finn"), dixie, text), ["finn", "dixie"])
    findings = [str(each) for each in unnamed(found, OWNERSHIP).findings]
    findings += [str(each) for each in OWNERSHIP.shared(found.uses, [*OWN, SECRET]).get("finn", [])]
    unread = [str(each) for each in found.not_examined]
    assert (FOUND if findings else UNCLEAR if unread else NOTHING) == expected, (findings, unread)


PIPELINE = """
resource "aws_iam_openid_connect_provider" "github" {
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}
resource "aws_iam_role" "deploy" {
  assume_role_policy = jsonencode({ Statement = [{
    Effect    = "Allow"
    Principal = { Federated = aws_iam_openid_connect_provider.github.arn }
    Action    = "sts:AssumeRoleWithWebIdentity"
    Condition = { StringEquals = {
      "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
      "token.actions.githubusercontent.com:sub" = "repo:a/b:ref:refs/heads/main"
    } }
  }] })
}
"""


@pytest.mark.parametrize(
    ("find", "replacement", "what"),
    [
        ("", "", ""),
        ("sts:AssumeRoleWithWebIdentity", "sts:AssumeRole", "a token needs sts:AssumeRoleWithWebIdentity"),
        ("sts:AssumeRoleWithWebIdentity", "sts:*", ""),
        ("sts:AssumeRoleWithWebIdentity", "sts:AssumeRoleWith*", ""),
        (":ref:refs/heads/main", ":*", "compares repo:a/b:* without wildcards"),
        ('aud" = "sts.amazonaws.com"', 'aud" = "https://github.com/a"', "its provider accepts"),
        ("StringEquals", "StringLike", ""),
        ('["sts.amazonaws.com"]', "[var.audience]", ""),
        ("aws_iam_openid_connect_provider.github.arn", '"arn:aws:iam::1:saml-provider/Okta"', ""),
        ("aws_iam_openid_connect_provider.github.arn }\n    Action    = \"sts:AssumeRoleWithWebIdentity",
         '"arn:aws:iam::1:oidc-provider/x" }\n    Action    = "sts:AssumeRole', "a token needs"),
    ],
)  # fmt: skip
def test_a_pipeline_can_assume_its_role(read: Read, find: str, replacement: str, what: str) -> None:
    assert find in PIPELINE
    said = [
        each.what for each in unassumable(read(PIPELINE.replace(find, replacement) if find else PIPELINE))
    ]
    assert [what in each for each in said] == [True] * bool(what), said


def test_one_of_two_providers_may_accept_the_audience(read: Read) -> None:
    provider = "aws_iam_openid_connect_provider.github.arn"
    both = PIPELINE.replace(provider, f'[{provider}, "arn:aws:iam::1:oidc-provider/gitlab.example"]')
    text = both.replace('aud" = "sts.amazonaws.com"', 'aud" = "https://gitlab.example"')
    assert [*unassumable(read(text))] == []
