"""kopf: watches feed the store and wake the loop; the process lives and leads."""
