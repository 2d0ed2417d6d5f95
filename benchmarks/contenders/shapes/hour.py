"""The same application on API-Hour: ``api_hour hour:Container`` in this folder."""

from app import make

import api_hour


class Container(api_hour.Container):
    def servers(self):
        return {"http": api_hour.HTTPServer(make())}
