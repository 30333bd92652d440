from .digits import Digits
from .tinyimagenet import TinyImageNet

__all__ = ['Digits', 'TinyImageNet']
