"""The tests of fastmp; a package, so that spawned children can import the modules by name."""
