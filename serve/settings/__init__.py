"""Every configuration as frozen, typed objects; unknown keys are errors that name the nearest right one."""
