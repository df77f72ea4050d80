"""scikit-learn's n_jobs, through joblib's multiprocessing and loky backends."""

import pytest

from tests.libs import program

program.needs("sklearn")


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("backend", ["multiprocessing", "loky"])
def test_n_jobs(tmp_path, backend):
    """A search, a forest and cross-validation: what they find with one job is what two find."""
    lines = program.run(
        tmp_path,
        """
        import multiprocessing, sys
        import joblib, numpy as np
        from joblib.externals.loky import get_reusable_executor
        from sklearn.datasets import make_classification
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, cross_val_score

        def results(jobs, X, y):
            search = GridSearchCV(LogisticRegression(max_iter=200), {"C": [0.01, 0.1, 1.0]},
                                  cv=3, n_jobs=jobs).fit(X, y)
            forest = RandomForestClassifier(20, random_state=1, n_jobs=jobs).fit(X, y)
            scores = cross_val_score(forest, X, y, cv=2, n_jobs=jobs)
            return (search.cv_results_["mean_test_score"], search.best_params_,
                    forest.predict_proba(X), scores)

        def where():
            import multiprocessing
            return multiprocessing.__name__

        if __name__ == "__main__":
            X, y = make_classification(400, 8, random_state=0)
            alone = results(1, X, y)
            with joblib.parallel_config(backend=sys.argv[1]):
                together = results(2, X, y)
                names = joblib.Parallel(n_jobs=2)(joblib.delayed(where)() for _ in range(4))
            for a, b in zip(alone, together):
                print(a == b if isinstance(a, dict) else np.array_equal(a, b))
            print(multiprocessing.__name__, set(names))
            get_reusable_executor().shutdown(wait=True)
        """,
        backend,
        processes=3,
    )
    assert lines == ["True", "True", "True", "True", "fastmp {'fastmp'}"]
