"""The learning rate in the course of a round."""

from stm_fast.training.recipe import Schedule


def rate(schedule: Schedule, step: int, steps: int) -> float:
    """Return the learning rate of a step as a fraction of the optimizer's.

    Args:
        schedule: of the round.
        step: number of the step in the round, from 0.
        steps: steps of the round.
    """
    rise = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    if schedule.name == "poly":
        return float(schedule.rate * rise * (1 - step / steps) ** schedule.power)
    if schedule.name == "step":
        return float(schedule.rate * rise * schedule.factor ** sum(step >= at for at in schedule.at))
    if schedule.name == "trapezoid":
        return schedule.rate * min(rise, (steps - step) / (schedule.decay + 1))
    return schedule.rate * rise
