# SPDX-License-Identifier: MIT
"""An incremental solver of one-way constraints, in the manner of DeltaBlue: local propagation, strengths, plans.

Each variable knows the constraint that determines it and its walk strength: that of the weakest constraint that would
have to give way for it to change. Adding or removing a constraint revises only what lies downstream of it.
"""

from __future__ import annotations

from itertools import count, pairwise

REQUIRED, STRONG, NORMAL, WEAK, WEAKEST = range(5)
"""The smaller the stronger."""


class Variable:
    """A value that constraints share."""

    def __init__(self, name: str, value: int = 0) -> None:
        self.name, self.value = name, value
        self.constraints: list[Constraint] = []
        self.determined_by: Constraint | None = None
        self.walk, self.stays, self.mark = WEAKEST, True, 0


class Constraint:
    """Over `variables`, of which one may be `output`. This one holds its only variable (stay), or lets it be edited."""

    editable = False

    def __init__(self, strength: int, *variables: Variable) -> None:
        self.strength, self.variables = strength, variables
        self.output: Variable | None = None

    def choices(self) -> tuple[Variable, ...]:
        """Variables that this constraint could determine."""
        return self.variables

    def inputs(self) -> list[Variable]:
        """What the output is computed from."""
        return [variable for variable in self.variables if variable is not self.output]

    def execute(self) -> None:
        """Compute the output."""

    def recalculate(self, output: Variable) -> None:
        """Walk strength and constancy of the output, and its value if it is constant."""
        others = [variable.walk for variable in self.choices() if variable is not output]
        output.walk = max(self.strength, *others) if others else self.strength
        output.stays = not self.editable and all(variable.stays for variable in self.inputs())
        if output.stays:
            self.execute()


class Edit(Constraint):
    """Its variable is changed from outside."""

    editable = True


class Equal(Constraint):
    """Two variables hold the same value."""

    def execute(self) -> None:
        """Copy."""
        if self.output is not None:
            self.output.value = self.inputs()[0].value


class Scaled(Constraint):
    """`target = source * scale + offset`; scale and offset are inputs always."""

    def choices(self) -> tuple[Variable, ...]:
        """Source or target."""
        return self.variables[0], self.variables[3]

    def execute(self) -> None:
        """Either direction."""
        source, scale, offset, target = self.variables
        if self.output is target:
            target.value = source.value * scale.value + offset.value
        else:
            source.value = (target.value - offset.value) // scale.value


class Solver:
    """Keeps the strongest set of constraints satisfied."""

    def __init__(self) -> None:
        self.marks = count(1)

    def add(self, constraint: Constraint) -> None:
        """Satisfy it, and what it displaces if that can go another way."""
        for variable in constraint.variables:
            variable.constraints.append(constraint)
        self.enforce(constraint)

    def enforce(self, constraint: Constraint) -> None:
        """One chain of displacements."""
        mark = next(self.marks)
        displaced: Constraint | None = constraint
        while displaced is not None:
            displaced = self.satisfy(displaced, mark)

    def satisfy(self, constraint: Constraint, mark: int) -> Constraint | None:
        """Give the constraint an output, if one is weaker; the constraint that determined it before."""
        free = [v for v in constraint.choices() if v.mark != mark and v.walk > constraint.strength]
        if not free:
            if constraint.strength == REQUIRED:
                raise ValueError("a required constraint can't be satisfied")
            constraint.output = None
            return None
        output = max(free, key=lambda variable: variable.walk)
        constraint.output, displaced = output, output.determined_by
        for variable in constraint.inputs():
            variable.mark = mark
        if displaced is not None:
            displaced.output = None
        output.determined_by = constraint
        self.propagate(constraint)
        output.mark = mark
        return displaced

    def propagate(self, constraint: Constraint) -> None:
        """Revise everything downstream."""
        todo = [constraint]
        while todo:
            current = todo.pop()
            if current.output is not None:
                current.recalculate(current.output)
                todo += self.consumers(current.output)

    def consumers(self, variable: Variable) -> list[Constraint]:
        """Satisfied constraints that read the variable."""
        return [c for c in variable.constraints if c.output is not None and c is not variable.determined_by]

    def remove(self, constraint: Constraint) -> None:
        """Withdraw it; what it held down gets its chance."""
        output, constraint.output = constraint.output, None
        for variable in constraint.variables:
            variable.constraints.remove(constraint)
        if output is None:
            return
        output.determined_by, output.walk, output.stays = None, WEAKEST, True
        waiting, todo = [], [output]
        while todo:
            variable = todo.pop()
            waiting += [c for c in variable.constraints if c.output is None]
            for consumer in self.consumers(variable):
                if consumer.output is not None:
                    consumer.recalculate(consumer.output)
                    todo.append(consumer.output)
        for other in sorted(waiting, key=lambda c: c.strength):
            self.enforce(other)

    def plan(self, edit: Constraint) -> list[Constraint]:
        """What has to be executed, in order, after the edited variable changed."""
        plan, todo = [], [edit]
        while todo:
            current = todo.pop(0)
            if current.output is not None:
                plan.append(current)
                todo += self.consumers(current.output)
        return plan


def chain(length: int) -> int:
    """Equalities in a row; values put in at one end come out at the other."""
    solver = Solver()
    variables = [Variable(f"v{number}") for number in range(length)]
    for left, right in pairwise(variables):
        solver.add(Equal(REQUIRED, left, right))
    stay = Constraint(STRONG, variables[-1])
    solver.add(stay)
    solver.remove(stay)
    edit = Edit(STRONG, variables[0])
    solver.add(edit)
    total, plan = 0, solver.plan(edit)
    for value in range(12):
        variables[0].value = value
        for constraint in plan:
            constraint.execute()
        total += variables[-1].value
    solver.remove(edit)
    return total


def projection(points: int) -> int:
    """A mapping of points; its scale is edited, then a target, which goes back to its source."""
    solver, pairs = Solver(), []
    scale, offset = Variable("scale", 10), Variable("offset", 1000)
    for number in range(points):
        source, target = Variable(f"s{number}", number), Variable(f"t{number}", number)
        solver.add(Constraint(NORMAL, source))
        solver.add(Scaled(REQUIRED, source, scale, offset, target))
        pairs.append((source, target))
    for variable in (scale, offset, pairs[0][1]):
        edit = Edit(STRONG, variable)
        solver.add(edit)
        plan = solver.plan(edit)
        for value in range(1, 9):
            variable.value = value
            for constraint in plan:
                constraint.execute()
        solver.remove(edit)
    return sum(source.value + target.value for source, target in pairs)


def run(scale: int) -> int:
    """Two chains of 60 variables and two projections of 40 points per unit of scale."""
    return sum(chain(60) + projection(40) for _ in range(2 * scale))
