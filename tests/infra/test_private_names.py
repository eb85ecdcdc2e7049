"""What kafka-python, aiokafka, MLflow and Evidently do not offer to the public, and infra uses, is still there."""

from __future__ import annotations

import inspect
import warnings


def test_kafka_pythons_producer_has_a_thread_that_can_be_ended() -> None:
    from kafka import KafkaProducer
    from kafka.producer.sender import Sender

    assert "self._sender = Sender(" in inspect.getsource(KafkaProducer)
    assert callable(Sender.force_close)


def test_aiokafkas_consumer_has_a_client_that_refreshes_its_metadata() -> None:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.client import AIOKafkaClient

    assert "self._client = AIOKafkaClient(" in inspect.getsource(AIOKafkaConsumer)
    assert callable(AIOKafkaClient.force_metadata_update)


def test_mlflows_client_has_two_stores_with_connections() -> None:
    from mlflow import MlflowClient

    assert "self._tracking_client = " in inspect.getsource(MlflowClient)
    assert callable(MlflowClient._get_registry_client)


def test_mlflows_store_deletes_the_rows_of_a_run() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about MLflow's own code
        from mlflow import cli
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    assert callable(SqlAlchemyStore._hard_delete_run)
    assert "backend_store._hard_delete_run(run_id)" in inspect.getsource(cli)


def test_evidentlys_page_has_its_data_in_two_variables_and_takes_the_graphs_from_the_second() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently.legacy.utils import dashboard

    template = inspect.getsource(dashboard.file_html_template)
    data, graphs = (template.index(f"var {name}" + "{params.dashboard_id} = ") for name in ("", "additional_graphs_"))
    assert data < graphs < template.index("window.drawDashboard({params.dashboard_id},")
    assert "new Map(Object.entries(additional_graphs_{params.dashboard_id}))" in template


def test_evidently_runs_a_test_that_is_registered_without_keeping_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently.legacy.calculations.stattests import registry

    assert "_impls[stat_test] = {}" in inspect.getsource(registry.register_stattest)
    assert "_impls[stattest][engine] = impl" in inspect.getsource(registry.add_stattest_impl)
