"What the server of `subprocess_cases` imports once, so that no child has to: the package imports diffusers on first use."

import diec.estimator  # noqa: F401
from diec.core.compat import diffusers

diffusers.UNet2DModel, diffusers.DDPMScheduler
