"""NetworkPolicies against deploy/network-arrows.yaml, both ways."""

import yaml

from .place import DAEMONS, name_of, of_kind

# The values of this file give each peer a label `peer` of its own.
VALUES = "everything-on"
# Ports of peers, as values of the chart name them.
PEER_PORTS = {"hapi": "hapi", "hapi-database": "hapiDatabase", "views-database": "viewsDatabase", "redis": "redis", "backup": "backup", "collector": "collector", "audit-repository": "auditRepository", "issuer": "issuer", "dns": "dns"}


def arrows(place):
    expected = expected_arrows(place)
    rendered = place.documents(VALUES)
    failures, found = [], set()
    for policy in of_kind(rendered, "NetworkPolicy"):
        problems, its = arrows_of(policy)
        failures += [f"{name_of(policy)}: {problem}" for problem in problems]
        found |= its
    failures += [f"no policy lets {side_text(arrow)}: an arrow of network-arrows.yaml is cut" for arrow in sorted(expected - found)]
    failures += [f"a policy lets {side_text(arrow)}: no arrow of network-arrows.yaml says so" for arrow in sorted(found - expected)]
    for values in (None, VALUES):
        failures += [f"{values or 'default values'}: {problem}" for problem in holes(place.documents(values))]
    return failures


def side_text(arrow):
    side, source, target, port = arrow
    return f"{source} connect to {target}:{port} (on {'its' if side == 'egress' else 'the other'} side, {side})"


def expected_arrows(place):
    """(side, from, to, port) for each end of an arrow that is a pod of the chart."""
    values = yaml.safe_load((place.chart / "values.yaml").read_text())["networkPolicy"]
    chosen = yaml.safe_load((place.chart / "ci" / f"{VALUES}.yaml").read_text())["networkPolicy"]
    ports = {}
    for deployment in of_kind(place.documents(VALUES), "Deployment"):
        daemon = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]:
            ports[daemon, port["name"]] = port["containerPort"]
    for peer, key in PEER_PORTS.items():
        ports[peer, peer] = {**values[key], **chosen[key]}["port"]
    expected = set()
    for arrow in yaml.safe_load((place.deploy / "network-arrows.yaml").read_text())["arrows"]:
        source, target = arrow["from"], arrow["to"]
        port = ports[target, arrow["port"]]
        if source in DAEMONS:
            expected.add(("egress", source, target, port))
        if target in DAEMONS:
            expected.add(("ingress", source, target, port))
    return expected


def arrows_of(policy):
    spec = policy["spec"]
    itself = spec["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/component")
    problems, found = [], set()
    if itself not in DAEMONS:
        return ["is of no daemon"], found
    if set(spec.get("policyTypes", [])) != {"Ingress", "Egress"}:
        problems.append("must close both ways: policyTypes [Ingress, Egress]")
    for side, key in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(side) or []:
            for peer in rule.get(key) or [None]:
                for port in rule.get("ports") or [{"port": "any"}]:
                    ends = (peer_name(peer), itself) if side == "ingress" else (itself, peer_name(peer))
                    found.add((side, *ends, port["port"]))
    return problems, found


def peer_name(peer):
    if peer is None:
        return "everybody"
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    return labels.get("app.kubernetes.io/component") or labels.get("peer") or "somebody"


def holes(documents):
    """Whatever the values: every pod is under a policy, and no rule is for everybody or for every port."""
    policies = of_kind(documents, "NetworkPolicy")
    for deployment in of_kind(documents, "Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        if not any(policy["spec"]["podSelector"].get("matchLabels", {"": ""}).items() <= labels.items() for policy in policies):
            yield f"{name_of(deployment)} is under no policy"
    for policy in policies:
        for side, key in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(side) or []:
                if not rule.get(key) or any(peer in ({}, {"podSelector": {}}, {"namespaceSelector": {}}) for peer in rule[key]):
                    yield f"{name_of(policy)}: {side}: a rule is for everybody"
                if not rule.get("ports"):
                    yield f"{name_of(policy)}: {side}: a rule is for every port"
