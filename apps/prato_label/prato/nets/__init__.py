"""Networks that take a box prompt and drop tokens."""

from prato.nets.swin_unetr import PratoSwinUNETR
from prato.nets.unetr import PratoUNETR

PromptedNetwork = PratoUNETR | PratoSwinUNETR
