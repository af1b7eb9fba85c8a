"""The Bottle application with WhiteNoise in front, which serves the directory ``FILES``."""

import os

from bottle_site import application as site
from whitenoise import WhiteNoise

application = WhiteNoise(site, root=os.environ["FILES"], prefix="files/", max_age=60)
