"""The services around SageMaker, which moto answers, and how what moto holds outlives the process.

From the outside in::

    application  moto as one WSGI application
    turns        one call at a time inside moto
    snapshots    saves what a call has changed, in units;  pickles  as bytes
    storage      bodies of S3 objects as files
    cloudwatch   alarms that follow their metrics
    logs         what moto's CloudWatch Logs leaves out
"""
