"""The IAM policies in docs/ allow exactly what the suite calls: every call of a run is recorded."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from smoke.keys.store import DRY_RUN, KMS, OPERATING
from stack.launch import Stack
from tests.smoke.keys.proxy import AwsProxy

ROOT = Path(__file__).parents[3]
READING = re.compile(r"(Describe|Discover|Get|List|Simulate)[A-Z]")
#: Actions that a run on the embedded platform never needs, and why.
SELDOM = {
    "iam:GetPolicy": "no role of the embedded platform has a managed policy attached",
    "iam:GetPolicyVersion": "no role of the embedded platform has a managed policy attached",
    "cloudfront:ListDistributions": "no record of the embedded platform leads to CloudFront",
    "cloudwatch:GetAlarmMuteRule": "no rule mutes the alarms of the embedded platform",
    "ecr:DescribePullThroughCacheRules": "asked only where an image is not in the registry",
    "lambda:GetFunctionConcurrency": "no function is subscribed to the topic of the embedded platform",
    "lambda:GetFunctionConfiguration": "no function is subscribed to the topic of the embedded platform",
    "lambda:GetPolicy": "no function is subscribed to the topic of the embedded platform",
    "s3:ListBucket": "no task of the embedded platform has a file with variables",
    "sts:GetCallerIdentity": "the embedded profile names the operator of the keys",
    "ssm:DescribeParameters": "no task of the embedded platform is given a parameter",
    "application-autoscaling:DescribeScheduledActions": "no service of the embedded platform is scaled",
    "application-autoscaling:DescribeScalingPolicies": "no service of the embedded platform is scaled",
    "rds:DescribeDBParameters": "the embedded database has no parameters of its own",
    "rds:DescribeDBClusterParameters": "the embedded database is no cluster",
    "rds:DescribeDBClusters": "the embedded database is no cluster",
    "elasticfilesystem:DescribeAccessPoints": "no task of the embedded platform mounts a file system",
    "elasticfilesystem:DescribeFileSystems": "no task of the embedded platform mounts a file system",
    "elasticfilesystem:DescribeMountTargets": "no task of the embedded platform mounts a file system",
    "rds:DescribeDBProxies": "asked only where the database lets its callers in no more",
    "route53profiles:ListProfileAssociations": "asked only where the private zone is another network's",
    "ec2:DescribeVpcBlockPublicAccessExclusions": "asked only where VPC Block Public Access is on",
    "events:DescribeRule": "asked only where an alarm notifies nobody by itself",
    "events:ListRuleNamesByTarget": "asked only where an alarm notifies nobody by itself",
    "firehose:DescribeDeliveryStream": "the topic of the embedded platform writes to no stream",
    "route53:GetHealthCheck": "no record of the embedded platform has a health check",
    "route53:GetHealthCheckStatus": "no record of the embedded platform has a health check",
    "wafv2:GetIPSet": "the embedded platform has no web ACL",
    "wafv2:GetRuleGroup": "the embedded platform has no web ACL",
    "wafv2:GetWebACL": "the embedded platform is behind no CloudFront distribution",
    "kms:DescribeKey": "the topic of the embedded platform has no key",
    "kms:GetKeyPolicy": "the topic of the embedded platform has no key",
    "kms:ListGrants": "asked only where neither a role's policies nor the key's let it decrypt",
    "kms:Decrypt": "Secrets Manager asks KMS in the caller's name",
}
SELDOM_IN_DRILLS = {
    "cloudwatch:DescribeAlarmHistory": "asked only when a notification did not arrive",
    "kms:GenerateDataKey": "Secrets Manager asks KMS in the caller's name",
}


def allowed(name: str) -> set[str]:
    policy = json.loads((ROOT / "docs" / name).read_text("utf-8"))
    found: set[str] = set()
    for statement in policy["Statement"]:
        actions = statement["Action"]
        found |= {actions} if isinstance(actions, str) else set(actions)
    return found


def recorded(stack: Stack, directory: Path, *arguments: str) -> set[str]:
    """The IAM actions that a run of the suite takes; it must end with a verdict, and nothing broken."""
    proxy = AwsProxy(stack.profile["aws"]["endpoint_url"])
    command = [sys.executable, "-m", "pytest", "smoke", "-q", "-p", "no:cacheprovider"]
    command += ["--env", str(stack.profile_path), "--readiness-dir", str(directory / "reports")]
    command += ["--readiness-ledger", f"file:{directory}/ledger.jsonl", *arguments]
    try:
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **stack.environ, "AWS_ENDPOINT_URL": proxy.url},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        proxy.close()
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    return proxy.permissions


def test_a_run_reads_what_the_policy_allows_and_writes_nothing(stack: Stack, tmp_path: Path) -> None:
    asked = recorded(stack, tmp_path)
    writes = {action for action in asked if not READING.match(action.partition(":")[2])}
    assert writes == set(), "a run without --drills must not write"
    policy = allowed("iam-policy.json")
    assert asked - policy == set(), "docs/iam-policy.json lacks these"
    assert policy - asked == set(SELDOM), "docs/iam-policy.json allows what no run asks for"


def test_drills_write_what_their_policy_allows(stack: Stack, tmp_path: Path) -> None:
    asked = recorded(stack, tmp_path, "--drills", "-m", "drill")
    policy = allowed("iam-policy-drills.json")
    assert asked - policy - allowed("iam-policy.json") == set(), "docs/iam-policy-drills.json lacks these"
    assert policy - asked == set(SELDOM_IN_DRILLS), (
        "docs/iam-policy-drills.json allows what no drill asks for"
    )


def test_the_policies_hold_what_the_key_commands_say_they_need() -> None:
    assert set(DRY_RUN) <= allowed("iam-policy.json")
    assert {*OPERATING, *KMS} <= allowed("iam-policy.json") | allowed("iam-policy-drills.json")


def test_the_page_on_permissions_explains_each_of_them() -> None:
    page = (ROOT / "docs" / "permissions.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+:\w+)` \| (.+) \|$", page, re.MULTILINE)
    assert {action for action, _ in rows} == allowed("iam-policy.json") | allowed("iam-policy-drills.json")
    assert len(rows) == len(dict(rows)), "one row for each"
