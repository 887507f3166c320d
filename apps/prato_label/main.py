"""PrATo Label: which models and strategies the server offers. What these do is in `lib`, and how they do it in `prato`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from threading import Thread, main_thread
from typing import Any, NoReturn

from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from pydantic import SecretStr

from lib.activelearning.registry import build_strategies
from lib.configs.options import Options, OptionsError
from lib.configs.prato import load_configs
from lib.datastore.studies import StudiesDatastore
from lib.jobs.batch import Batch, Batches
from lib.jobs.batch_order import BatchOrder
from lib.jobs.training_queue import TrainingQueue
from lib.server.install import install
from lib.server.shutdown import is_ending
from lib.server.uploads import UploadSessions, remove_abandoned_uploads
from prato.models.registry import DEFAULT_MODEL
from prato.retraining.round import TrainingOrder
from prato.runtime.memory import release_free_memory
from prato_server.settings import Settings, load_settings
from prato_server.startup import reason_not_to_listen, reason_not_to_serve

logger = logging.getLogger(__name__)


def _end(reason: str) -> NoReturn:
    """End the process, which cannot serve: of every exception the stock command makes a traceback."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(2)


def _with_stock_credentials(own: Settings) -> Settings:
    """``own``, with the credentials for a PACS that were set for MONAI Label where it has none."""
    if own.pacs_user or own.pacs_token or not settings.MONAI_LABEL_DICOMWEB_USERNAME:
        return own
    password = SecretStr(settings.MONAI_LABEL_DICOMWEB_PASSWORD)
    return own.model_copy(update={"pacs_user": settings.MONAI_LABEL_DICOMWEB_USERNAME, "pacs_password": password})


class PratoLabelApp(MONAILabelApp):
    """A box round the heart in; RV cavity, myocardium and LV cavity out; retrained from the labels that come back."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        reason = reason_not_to_serve(Path(app_dir), studies) or reason_not_to_listen(sys.argv[1:])
        if reason is not None:  # serve.py has asked already, the stock command has not
            _end(reason)
        if settings.MONAI_LABEL_DATASTORE_READ_ONLY:  # with which MONAI Label leaves out only the first look at the folder
            _end(
                "MONAI_LABEL_DATASTORE_READ_ONLY is set, but labels are stored in the studies folder: "
                "unset it, and serve a copy of the folder if it must not change."
            )
        try:
            self.options, self.models = Options.parse(conf), load_configs(app_dir, conf)
        except OptionsError as error:
            _end(str(error))
        if self.options.unread:
            logger.warning("--conf has no effect here on %s: only models and skip_trainers are read.", ", ".join(self.options.unread))
        self.trainings = TrainingQueue(Path(app_dir) / "model" / "trainings", studies)
        self.batches = Batches()
        super().__init__(app_dir, studies, conf, name="PrATo Label", description=type(self).__doc__, version="0.1.0")

    def init_datastore(self) -> Datastore:
        if not self.studies.startswith(("http://", "https://")):
            return StudiesDatastore(self.studies)
        if settings.MONAI_LABEL_DATASTORE.lower() in ("xnat", "dsa"):
            return super().init_datastore()
        from lib.datastore.pacs import PacsDatastore  # with what reads and writes DICOM, a second that a server of a folder need not take

        is_given = "MONAI_LABEL_DICOMWEB_SEARCH_FILTER" in settings.model_fields_set  # MONAI Label's own default is to look for CT
        filters = settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER if is_given else {"Modality": "MR"}
        return PacsDatastore(self.studies, _with_stock_credentials(load_settings()), filters)

    def init_infers(self) -> dict[str, InferTask]:
        return {name: config.infer() for name, config in self.models.items()}

    def init_trainers(self) -> dict[str, TrainTask]:
        trainers = {name: None if self.options.skip_trainers else config.trainer() for name, config in self.models.items()}
        return {name: trainer for name, trainer in trainers.items() if trainer}

    def init_strategies(self) -> dict[str, Strategy]:
        return build_strategies({name: task.predictor for name, task in self._infers.items()}, self.default_model)

    @property
    def default_model(self) -> str:
        """The model that answers where a request names none."""
        return DEFAULT_MODEL if DEFAULT_MODEL in self.models else next(iter(self.models))

    def refresh_studies(self) -> None:
        """Look at the studies folder now: what another program wrote a moment ago may not have been noticed yet."""
        if isinstance(self._datastore, StudiesDatastore):
            try:
                self._datastore.refresh()
            except OSError as error:  # what is known serves as well
                logger.warning("the studies folder cannot be scanned now (%s)", error.strerror)

    def training_order(self, model: str, params: dict[str, Any]) -> TrainingOrder:
        """What training ``model`` with ``params`` on the labels as they are means; an HTTPException where that is not possible."""
        return self._trainers[model].order(params, self._datastore)

    def training_stats(self, model: str) -> dict[str, Any]:
        """The progress of the latest training of ``model``."""
        return self._trainers[model].stats() if model in self._trainers else {}

    def start_batch(self, request: dict[str, Any], order: BatchOrder) -> Batch:
        """Start a batch inference; BusyError where one runs."""
        batch = Batch(request, order, self._infers[order.model].predictor, self._datastore)
        self.batches.start(batch)
        return batch

    def model_version(self, model: str) -> str | None:
        """The version of ``model`` that answers the next request."""
        return self._infers[model].predictor.version()

    def _load_sessions(self, load: bool = False) -> UploadSessions | None:
        return UploadSessions(settings.MONAI_LABEL_SESSION_PATH, settings.MONAI_LABEL_SESSION_EXPIRY) if load else None

    def cleanup_sessions(self) -> None:
        """What MONAI Label asks for every five minutes: remove sessions that have expired, and let go of memory that nothing needs."""
        super().cleanup_sessions()
        release_free_memory()

    def on_init_complete(self) -> None:
        super().on_init_complete()
        install()
        remove_abandoned_uploads()
        for trainer in self._trainers.values():
            trainer.store.recover()
        Thread(target=self.warm_up, args=list(self._infers), name="warm-up", daemon=True).start()

    def close(self) -> None:
        """End the background jobs."""
        if isinstance(self._datastore, StudiesDatastore):
            self._datastore.close()
        self.trainings.close()
        self.batches.stop()

    def warm_up(self, *models: str) -> None:
        """Load and measure those of ``models`` whose files are there."""
        for task in (self._infers[model] for model in models):
            if task.is_valid():
                try:
                    task.warm_up()
                except RuntimeError:
                    if main_thread().is_alive() and not is_ending():
                        raise
                    return  # the server has ended before it was warm: it was told to, or its port was taken, perhaps
