"""A store that seals what it hands on to another one."""

from tenuto.adapters.stores.sealed.cache import SealedCache
from tenuto.adapters.stores.sealed.depot import SealedDepot
from tenuto.adapters.stores.sealed.masters import Masters, new_master
from tenuto.adapters.stores.sealed.ring import KeyRing
from tenuto.adapters.stores.sealed.store import SealedStore

__all__ = ["KeyRing", "Masters", "SealedCache", "SealedDepot", "SealedStore", "new_master"]
