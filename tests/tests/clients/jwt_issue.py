"""Makes a key and signs tokens with it: reads a JSON array of claims from stdin, prints {"jwks", "tokens", "forged"} as JSON.

`forged` are the same claims signed with another key.
"""

import json
import sys

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm


def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def sign(claims, with_key):
    return jwt.encode(claims, with_key, algorithm="RS256", headers={"kid": "test"})


ours, other = key(), key()
jwk = json.loads(RSAAlgorithm.to_jwk(ours.public_key())) | {"kid": "test", "alg": "RS256", "use": "sig"}
jwk.pop("key_ops", None)
all_claims = json.load(sys.stdin)
tokens, forged = ([sign(claims, with_key) for claims in all_claims] for with_key in (ours, other))
json.dump({"jwks": {"keys": [jwk]}, "tokens": tokens, "forged": forged}, sys.stdout)
