"""Certificates: one authority, one certificate for each part of the cluster that talks to another."""

import base64
import datetime as dt
import ipaddress
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.cluster.processes import write_atomically

_VALID = dt.timedelta(days=3650)
_CLOCK_SKEW = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Identity:
    """Whom a certificate is for: `user` in the groups `groups`; `names` make it a server's."""

    file: str
    user: str
    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # DNS names and addresses
    mutual: bool = False  # a server's that is also a client of its like


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


ADMIN = Identity("admin", "kubernetes-admin", ("system:masters",))
CONTROLLER_MANAGER = Identity("controller-manager", "system:kube-controller-manager")
SCHEDULER = Identity("scheduler", "system:kube-scheduler")
PROXY = Identity("proxy", "system:kube-proxy")
PROMETHEUS = Identity("prometheus", "conch-prometheus")
DNS = Identity("dns", "conch-dns")
KUBELET_CLIENT = Identity("kubelet-client", "kube-apiserver", ("system:masters",))
CLIENTS = (ADMIN, CONTROLLER_MANAGER, SCHEDULER, PROXY, PROMETHEUS, DNS, KUBELET_CLIENT)


def apiserver(addresses: Collection[str]) -> Identity:
    """The API server's, reachable at `addresses` besides the names that pods use."""
    pods = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names = [*pods, "kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1", *addresses]
    return Identity("apiserver", "kube-apiserver", (), tuple(dict.fromkeys(names)))


def kubelet(node: str, address: str) -> tuple[Identity, Identity]:
    """A node's as a client of the API server, and as the server that the API server asks."""
    client = Identity(f"node-{node}", f"system:node:{node}", ("system:nodes",))
    return client, Identity(f"kubelet-{node}", f"kubelet-{node}", (), (node, address))


class Pki:
    """The certificates in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def authority(self) -> Path:
        """The certificate of the authority, which everyone trusts."""
        return self.pair_named("ca").certificate

    @property
    def service_account_key(self) -> Path:
        """Signs service accounts' tokens."""
        return self._directory / "service-account.key"

    def pair(self, identity: Identity) -> KeyPair:
        return self.pair_named(identity.file)

    def pair_named(self, name: str) -> KeyPair:
        return KeyPair(self._directory / f"{name}.crt", self._directory / f"{name}.key")

    def ensure(self, identities: Collection[Identity]) -> None:
        """Makes the authority and the certificates unless all are there; all or nothing."""
        if all(self.pair(identity).certificate.exists() for identity in identities):
            return
        self._directory.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".pki-", dir=self._directory.parent))
        try:
            Pki(work).generate(identities)
            shutil.rmtree(self._directory, ignore_errors=True)
            work.rename(self._directory)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def kubeconfig(self, identity: Identity, url: str) -> str:
        """A kubeconfig, complete in itself, with which `identity` reaches the API server at `url`."""
        pair = self.pair(identity)
        cluster = {"server": url, "certificate-authority-data": _base64(self.authority)}
        user = {
            "client-certificate-data": _base64(pair.certificate),
            "client-key-data": _base64(pair.key),
        }
        context = {"cluster": "conch", "user": identity.user}
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "conch", "cluster": cluster}],
                "users": [{"name": identity.user, "user": user}],
                "contexts": [{"name": "conch", "context": context}],
                "current-context": "conch",
            }
        )

    def write_kubeconfig(self, identity: Identity, url: str, path: Path) -> Path:
        """Writes that kubeconfig to `path`, unless it is there; returns the path."""
        text = self.kubeconfig(identity, url)
        if not path.exists() or path.read_text() != text:
            write_atomically(path, text, mode=0o600)
        return path

    def generate(self, identities: Collection[Identity]) -> None:
        """Makes them anew, in a directory that exists."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("conch-local-cluster", ())
        builder = _builder(name, name, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        builder = builder.add_extension(_usage(signs=True), True)
        authority = builder.sign(key, hashes.SHA256())
        self._write("ca", authority, key)
        for identity in identities:
            own = ec.generate_private_key(ec.SECP256R1())
            self._write(identity.file, _issue(identity, own, authority, key), own)
        self._write_key(self.service_account_key, ec.generate_private_key(ec.SECP256R1()))

    def _write(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        pair = self.pair_named(name)
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._write_key(pair.key, key)

    @staticmethod
    def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        path.touch(mode=0o600)
        path.write_bytes(pem)


def _issue(
    identity: Identity,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = _name(identity.user, identity.groups)
    builder = _builder(subject, authority.subject, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(signs=False), True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(_purposes(identity)), False)
    if identity.names:
        names = x509.SubjectAlternativeName([_general_name(name) for name in identity.names])
        builder = builder.add_extension(names, False)
    return builder.sign(authority_key, hashes.SHA256())


def _purposes(identity: Identity) -> list[x509.ObjectIdentifier]:
    server = [ExtendedKeyUsageOID.SERVER_AUTH] if identity.names else []
    client = [ExtendedKeyUsageOID.CLIENT_AUTH] if identity.mutual or not identity.names else []
    return server + client


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 -- a certificate's dates are real ones
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name(user: str, groups: tuple[str, ...]) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
