#!/usr/bin/env python3
"""Writes the table of FHIR R4's types that FHIRPath is compiled against, from the StructureDefinitions in HAPI's jar.

    fhir_types.py <jar> <version of the artifact> > crates/fhir-core/src/fhirpath/model/r4.txt

The table's own first lines say how it is read. Only what each type defines itself is written: the rest is its base's.
"""

import sys
import xml.etree.ElementTree as ET
import zipfile

FOLDER = "org/hl7/fhir/r4/model/profile/"
FHIR = "{http://hl7.org/fhir}"
DEFINITIONS = "http://hl7.org/fhir/StructureDefinition/"
# A System type stands where FHIR's own type is said in this extension.
FHIR_TYPE = DEFINITIONS + "structuredefinition-fhir-type"

# Logical models are no types of elements or resources.
KINDS = {"primitive-type": "primitive", "complex-type": "complex", "resource": "resource"}


def value(node, path):
    """The `value` attribute of what `path` names, if it is there."""
    found = node.find("/".join(FHIR + step for step in path.split("/")))
    return None if found is None else found.get("value")


def type_name(node):
    """The FHIR type of an element's `type`."""
    for extension in node.findall(FHIR + "extension"):
        if extension.get("url") == FHIR_TYPE:
            return value(extension, "valueUrl") or value(extension, "valueUri")
    return value(node, "code")


class Table:
    def __init__(self):
        self.types = {}

    def definition(self, node):
        name = value(node, "type")
        kind = value(node, "kind")
        if kind not in KINDS:
            return
        derived = value(node, "derivation")
        base = value(node, "baseDefinition")
        base = base[len(DEFINITIONS):] if base else "-"
        if derived == "constraint":
            # A constraint has its base's elements; that it is a data type of its own (SimpleQuantity) is its name's doing.
            if kind == "complex-type" and base == name:
                self.types.setdefault(value(node, "name"), (kind, base, []))
            return
        if name in self.types and self.types[name][2]:
            return
        self.types[name] = (kind, base, [])
        if kind == "primitive-type":
            return
        for element in node.findall(f"{FHIR}differential/{FHIR}element"):
            self.element(element)

    def element(self, node):
        path = value(node, "path")
        if "." not in path:
            return
        parent, name = path.rsplit(".", 1)
        many = value(node, "max") not in ("0", "1")
        reference = value(node, "contentReference")
        types = []
        if reference:
            types = [reference.split("#")[-1]]
        for found in node.findall(FHIR + "type"):
            found = type_name(found)
            if found not in types:
                types.append(found)
        if types in (["BackboneElement"], ["Element"]):
            self.types[path] = ("complex-type", types[0], [])
            types = [path]
        # R4's definition says string here, its text (and every other version) id.
        if path == "Resource.id":
            types = ["id"]
        self.types[parent][2].append((name, many, types))


def read(archive, file, table):
    with archive.open(FOLDER + file) as stream:
        for _, node in ET.iterparse(stream):
            if node.tag == FHIR + "StructureDefinition":
                table.definition(node)
                node.clear()


def main():
    jar, version = sys.argv[1:]
    table = Table()
    with zipfile.ZipFile(jar) as archive:
        for file in ("profiles-types.xml", "profiles-resources.xml"):
            read(archive, file, table)
    # The choice of any type is written once.
    widest = max((types for _, _, elements in table.types.values() for _, _, types in elements), key=len)
    print("# FHIR R4 (4.0.1): its types and their elements.")
    print(f"# Source: the StructureDefinitions in ca.uhn.hapi.fhir:hapi-fhir-validation-resources-r4:{version}.")
    print("# Written by scripts/fhir_types.py (`make types`); not edited by hand.")
    print("#")
    print("# kind name base            a type; '-' is no base; Patient.contact is the type of that element")
    print("#  name[x][*] type…          an element of it: a choice has [x], a list has *; 'any' stands for:")
    print("any " + " ".join(widest))
    for name in sorted(table.types):
        kind, base, elements = table.types[name]
        print(f"{KINDS[kind]} {name} {base}")
        for element, many, types in elements:
            types = ["any"] if types == widest else types
            print(f" {element}{'*' if many else ''} {' '.join(types)}")


if __name__ == "__main__":
    main()
