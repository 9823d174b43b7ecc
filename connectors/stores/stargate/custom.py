"""Rows to the user's own bulk service, many per request."""

from __future__ import annotations

from connectors.core.errors import Rejection
from connectors.stores.error_attribution import RowCase
from connectors.stores.stargate.bulk import BulkWriter, IndexedRow
from connectors.stores.stargate.bulk_errors import check_custom


class StargateCustom(BulkWriter):
    """Writes rows by `PUT STARGATE_BULK_URL` with `[{"page_id","vector"}, …]`; 2xx = all stored."""

    async def _send_json(self, rows: bytes) -> None:
        response = await self._rest.session.send("PUT", self._url, b"[" + rows + b"]")
        check_custom(response, self._url)

    async def _store_alone(self, entry: IndexedRow) -> dict[int, Rejection]:
        index, row = entry
        rejection = await self._rest.write_until_settled(
            row.page_id, lambda: self._send([row]), self._has_stored_others
        )
        return {} if rejection is None else {index: rejection}

    async def _has_stored_others(self, case: RowCase) -> bool:
        """Return whether the service has stored other rows; it has no endpoint to read from."""
        return self._rest.attribution.accepted_since(case) > 0
