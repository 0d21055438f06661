"""Who answers: the Backend protocol, the prefix planner, and the engines."""
