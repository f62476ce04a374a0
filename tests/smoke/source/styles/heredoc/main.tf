# Everything is written out: JSON in heredocs (one ends with blanks), ARNs as text.
data "aws_caller_identity" "me" {}

resource "aws_iam_role" "finn" { name = "p-finn" }
resource "aws_iam_role" "dixie" { name = "p-dixie" }

resource "aws_iam_role_policy" "finn" {
  role   = aws_iam_role.finn.id
  policy = <<POLICY
{
  "Version": "2012-10-17",
  "Statement": {
    "Effect": "Allow",
    "Action": "ssm:GetParameters",
    "Resource": "arn:aws:ssm:us-east-1:${data.aws_caller_identity.me.account_id}:parameter/finn/*"
  }
}
POLICY   
}

# dixie's role reads finn's parameters: the account's number makes no difference
resource "aws_iam_role_policy" "dixie" {
  role   = aws_iam_role.dixie.name
  policy = <<-POLICY
    {"Statement": [{"Effect": "Allow", "Action": ["SSM:getParameter"],
      "Resource": ["arn:aws:ssm:us-east-1:${data.aws_caller_identity.me.account_id}:parameter/dixie/key",
                   "arn:aws:ssm:us-east-1:${data.aws_caller_identity.me.account_id}:parameter/finn/key"]}]}
  POLICY
}

resource "aws_ecs_task_definition" "finn" {
  family             = "p-finn"
  cpu                = "512"
  memory             = "1024"
  execution_role_arn = "arn:aws:iam::${data.aws_caller_identity.me.account_id}:role/p-finn"
  container_definitions = <<JSON
[
  {
    "name": "finn",
    "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/p-finn:4f2a91c",
    "secrets": [{"name": "KEY", "valueFrom": "arn:aws:ssm:us-east-1:${data.aws_caller_identity.me.account_id}:parameter/finn/key"}],
    "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/finn"}}
  }
]
JSON
}

resource "aws_ecs_task_definition" "dixie" {
  family             = "p-dixie"
  cpu                = "256"
  memory             = "512"
  execution_role_arn = aws_iam_role.dixie.arn
  container_definitions = <<-JSON
    [{
      "name": "dixie",
      "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/p-dixie:latest",
      "secrets": [{"name": "KEY", "valueFrom": "arn:aws:ssm:us-east-1:${data.aws_caller_identity.me.account_id}:parameter/dixie/key"}],
      "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/dixie"}}
    }]
  JSON
}

resource "aws_ecs_service" "finn" {
  name            = "p-finn"
  task_definition = aws_ecs_task_definition.finn.arn
  network_configuration { security_groups = ["sg-0f1"] }
}

resource "aws_ecs_service" "dixie" {
  name            = "p-dixie"
  task_definition = "${aws_ecs_task_definition.dixie.family}:${aws_ecs_task_definition.dixie.revision}"
  network_configuration { security_groups = ["sg-0d1"] }
}
