"""CloudFormation: the resource types that moto leaves out, and updates that touch what has changed."""
