"""What a program is: dialects, types, reference evaluator, cost, errors."""
