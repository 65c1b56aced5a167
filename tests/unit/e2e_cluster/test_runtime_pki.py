import base64
import ssl
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.cluster.api import Api
from e2e.cluster.pki import ADMIN, CLIENTS, Identity, Pki, apiserver, kubelet

SERVER_AUTH, CLIENT_AUTH = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path / "pki")
    made.ensure([apiserver(["10.123.0.1", "10.96.0.1"]), *CLIENTS, *kubelet("n1", "10.123.0.11")])
    return made


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_authority_signs_all_of_them(pki: Pki) -> None:
    authority = load(pki.authority)
    for identity in (*CLIENTS, *kubelet("n1", "10.123.0.11")):
        load(pki.pair(identity).certificate).verify_directly_issued_by(authority)


def test_the_api_servers_certificate_is_good_for_every_way_to_reach_it(pki: Pki) -> None:
    certificate = load(pki.pair(apiserver([])).certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {
        "10.123.0.1",
        "10.96.0.1",
        "127.0.0.1",
    }
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)


def test_a_node_speaks_as_itself_and_serves_as_itself(pki: Pki) -> None:
    client, server = (load(pki.pair(each).certificate) for each in kubelet("n1", "10.123.0.11"))
    assert attribute(client, NameOID.COMMON_NAME) == ["system:node:n1"]
    assert attribute(client, NameOID.ORGANIZATION_NAME) == ["system:nodes"]
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1"]


def test_what_is_there_stays(pki: Pki) -> None:
    before = pki.authority.read_bytes()
    pki.ensure([ADMIN])
    assert pki.authority.read_bytes() == before


def test_a_missing_certificate_makes_all_anew(pki: Pki) -> None:
    pki.ensure([ADMIN, Identity("extra", "someone")])
    authority = load(pki.authority)
    load(pki.pair_named("extra").certificate).verify_directly_issued_by(authority)
    load(pki.pair(ADMIN).certificate).verify_directly_issued_by(authority)


def test_keys_are_for_root_alone(pki: Pki) -> None:
    for path in (pki.pair(ADMIN).key, pki.service_account_key, pki.pair_named("ca").key):
        assert path.stat().st_mode & 0o077 == 0


def test_a_kubeconfig_is_complete_in_itself(pki: Pki, tmp_path: Path) -> None:
    path = pki.write_kubeconfig(ADMIN, "https://10.123.0.1:6443", tmp_path / "kubeconfig")
    config = yaml.safe_load(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://10.123.0.1:6443"
    user = config["users"][0]["user"]
    certificate = base64.b64decode(user["client-certificate-data"])
    assert certificate == pki.pair(ADMIN).certificate.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert isinstance(Api.from_kubeconfig(path), Api)


def test_certificate_and_key_belong_together(pki: Pki) -> None:
    pair = pki.pair(ADMIN)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(pair.certificate, pair.key)


def attribute(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> list[str | bytes]:
    return [each.value for each in certificate.subject.get_attributes_for_oid(kind)]


@pytest.mark.parametrize(
    ("mutual", "names", "purposes"),
    [
        (False, ("n1",), {SERVER_AUTH}),
        (False, (), {CLIENT_AUTH}),
        (True, ("n1",), {SERVER_AUTH, CLIENT_AUTH}),
    ],
)
def test_only_who_is_both_serves_and_asks_with_one_certificate(
    tmp_path: Path, mutual: bool, names: tuple[str, ...], purposes: set[x509.ObjectIdentifier]
) -> None:
    made = Pki(tmp_path / "own")
    made.ensure([Identity("one", "someone", names=names, mutual=mutual)])
    extensions = load(made.pair_named("one").certificate).extensions
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == purposes
