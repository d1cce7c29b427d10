"""What the step scripts share: data sources, records, the network, its export, its judgement.

Nothing here imports the SageMaker SDK or anything from ``pipeline/``: a job carries exactly the modules that its
script imports, and nothing else.
"""
