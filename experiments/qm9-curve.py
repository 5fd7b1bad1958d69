"""How does the error of the dipole moment fall with the number of QM9 training molecules?

The 12,000-molecule subset: n of 10,000 for training; of the other 2000, a random half chooses the
epoch and the other half is the test set.

run:     python experiments/qm9-curve.py
time:    half an hour on two CPU cores
expect:  a straight line in log-log; published, 100,000 molecules and 1000 epochs: 0.029 D (EGNN)
reached: results/qm9-egnn.json
"""

import json
from dataclasses import replace
from pathlib import Path

from results import write

from geojax import config, datasets
from geojax.metrics import constant_baseline
from geojax.training import train

HERE = Path(__file__).parent
SIZES = (1000, 3000, 10_000)
ERROR = "targets.mu.mae"


def main() -> None:
    study = config.read(HERE / "qm9-egnn.toml")
    curve, baseline = {}, 0.0
    for size in SIZES:
        data = config.data_of({**study.data, "n_train": size})
        valid, test = datasets.split(data.valid, [0.5, -1])
        data = replace(data, valid=valid, test=test)
        # as many steps for few molecules as for many
        epochs = study.options.epochs * SIZES[-1] // size
        model = train(
            study.network,
            data,
            loss=study.loss,
            outputs=study.outputs,
            optimizer=study.optimizer,
            options=replace(study.options, epochs=epochs, validate_every=max(1, epochs // 30)),
            folder=Path("runs") / f"qm9-{size}",
        )
        curve[str(size)] = config.evaluate(model, data.test)[ERROR]
        baseline = constant_baseline(data.train, data.test)[ERROR]
        print(json.dumps(curve), flush=True)
    errors = {ERROR: curve[str(SIZES[-1])], "baseline": baseline}
    write("qm9-egnn", {"test": errors, "curve": curve, "unit": "Debye"})


if __name__ == "__main__":
    main()
