"""The ptrace stepper: kills and pauses at every instruction, and mutants that it has to catch."""
