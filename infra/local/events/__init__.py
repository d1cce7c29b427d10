"""Events: what happens here, told through the rules of EventBridge to their targets."""
