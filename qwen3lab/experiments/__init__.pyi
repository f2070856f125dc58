from . import controls as controls, effects as effects, fidelity as fidelity, knockout as knockout
