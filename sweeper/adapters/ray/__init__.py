"""Ray Tune: schedules gangs. The only package that imports ray, and the only one that says *stop*."""
