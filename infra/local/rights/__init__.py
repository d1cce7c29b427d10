"""Rights: whose credentials a request has, what it uses, and whether that role's policies allow it.

From the outside in::

    actors      in whose name jobs, pipelines, rules and models act;  switched on by ``SAGEMAKER_EMBEDDED_ROLES``
    roles       sessions of roles, their policies and trust, a log of what was used
    accesses    from a request to the actions and resources that it uses
    policies    from policies and an access to a verdict
"""
