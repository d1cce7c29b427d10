"""What the pipeline runs on: the embedded SageMaker (``local/``) and, on AWS, CloudFormation (``aws/``)."""
