import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.TreeMap;

/**
 * Reads the merged views as BI tools do over JDBC: looks at the catalogue, then runs one prepared statement again and again (which the driver makes a statement of
 * the server's after the fifth time), in transactions, through a cursor that fetches 40 rows at a time.
 *
 * <p>Wanted of this client: no error, also from a prepared statement over views whose tables are written and published all the time; each resource with all of its
 * rows, once, of one version; versions that never go back; types that a BI tool maps to its own without settings. Usage: BiClient JDBC-URL USER PASSWORD READS CHANGED.
 * It reads READS times at least, and until it has seen CHANGED new versions. One line a failed check; the last line is {@code READS reads, CHANGED versions}.
 */
public final class BiClient {
    private static final String SELECT =
            "SELECT id, version, part, parts, value, issued, critical, note FROM sqlonfhir.readings WHERE version >= ? ORDER BY id, part";
    private static final int FETCH_SIZE = 40;
    private final Map<String, Integer> newest = new HashMap<>();
    private int failures;
    private int changed;

    public static void main(String[] arguments) throws SQLException {
        int wanted = Integer.parseInt(arguments[3]);
        int changes = Integer.parseInt(arguments[4]);
        int reads = 0;
        BiClient client = new BiClient();
        Properties properties = new Properties();
        properties.setProperty("user", arguments[1]);
        properties.setProperty("password", arguments[2]);
        properties.setProperty("readOnly", "true");
        properties.setProperty("ApplicationName", "a BI tool");
        try (Connection connection = DriverManager.getConnection(arguments[0], properties)) {
            client.lookAtCatalogue(connection);
            // A cursor of the server needs a transaction; without one the driver takes all rows at once, whatever the fetch size.
            connection.setAutoCommit(false);
            connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
            try (PreparedStatement statement = connection.prepareStatement(SELECT)) {
                statement.setFetchSize(FETCH_SIZE);
                for (; reads < wanted || client.changed < changes; reads++) {
                    client.read(statement);
                    client.compareViews(connection);
                    connection.commit();
                }
            }
        }
        System.out.println(reads + " reads, " + client.changed + " versions");
        System.exit(client.failures == 0 ? 0 : 1);
    }

    private void check(String what, boolean holds, Object said) {
        if (!holds) {
            failures++;
            System.out.println("FAILED " + what + ": " + said);
        }
    }

    /** What a tool's list of tables and columns shows: views of a schema, and nothing that it may not read. */
    private void lookAtCatalogue(Connection connection) throws SQLException {
        DatabaseMetaData catalogue = connection.getMetaData();
        List<String> views = new ArrayList<>();
        try (ResultSet tables = catalogue.getTables(null, "sqlonfhir", "%", new String[] {"VIEW"})) {
            while (tables.next()) {
                views.add(tables.getString("TABLE_NAME"));
            }
        }
        check("views are listed", views.containsAll(List.of("readings", "critical", "freshness")), views);
        Map<String, String> types = new TreeMap<>();
        try (ResultSet columns = catalogue.getColumns(null, "sqlonfhir", "readings", "%")) {
            while (columns.next()) {
                types.put(columns.getString("COLUMN_NAME"), columns.getString("TYPE_NAME"));
            }
        }
        Map<String, String> wanted =
                new TreeMap<>(
                        Map.of(
                                "id", "text", "version", "int4", "part", "int4", "parts", "int4",
                                "value", "numeric", "issued", "timestamptz", "critical", "bool", "note", "text"));
        check("columns and types", types.equals(wanted), types);
    }

    private void read(PreparedStatement statement) throws SQLException {
        statement.setInt(1, 0);
        Map<String, List<Integer>> parts = new TreeMap<>();
        Map<String, Integer> versions = new HashMap<>();
        try (ResultSet rows = statement.executeQuery()) {
            ResultSetMetaData about = rows.getMetaData();
            check("class of numbers", about.getColumnClassName(5).equals("java.math.BigDecimal"), about.getColumnClassName(5));
            while (rows.next()) {
                String id = rows.getString(1);
                int version = rows.getInt(2);
                int part = rows.getInt(3);
                Integer known = versions.putIfAbsent(id, version);
                check("one version", known == null || known == version, id + " " + known + " " + version);
                parts.computeIfAbsent(id, none -> new ArrayList<>()).add(part);
                check("parts", rows.getInt(4) == 1 + version % 3, id);
                // equals() of BigDecimal compares the scale too.
                BigDecimal value = rows.getBigDecimal(5);
                check("exact value", value.equals(new BigDecimal(version + "." + part + "0")), id + " " + value);
                Instant issued = rows.getObject(6, OffsetDateTime.class).toInstant();
                check("issued", issued.equals(Instant.ofEpochSecond(version)), id + " " + issued);
                check("critical", Objects.equals(rows.getObject(7), version % 2 == 0), id + " " + rows.getObject(7));
                check("note", rows.getString(8).equals("of " + id), id);
            }
        }
        for (Map.Entry<String, List<Integer>> one : parts.entrySet()) {
            String id = one.getKey();
            int version = versions.get(id);
            List<Integer> wanted = new ArrayList<>();
            for (int part = 1; part <= 1 + version % 3; part++) {
                wanted.add(part);
            }
            check("all rows, once", one.getValue().equals(wanted), id + " " + one.getValue());
            int before = newest.getOrDefault(id, version);
            check("not back", version >= before, id + " " + version + " after " + before);
            changed += version > before ? 1 : 0;
            newest.put(id, version);
        }
        for (int number = 0; number < 100; number += 2) {
            // Neighbours change in one transaction.
            Integer one = versions.get(String.format("steady-%03d", number));
            Integer other = versions.get(String.format("steady-%03d", number + 1));
            check("nothing missing", one != null && other != null, number);
            check("no half of a change", Objects.equals(one, other), number + ": " + one + " " + other);
        }
    }

    /** Rows move between views at once: in the snapshot of this transaction both agree. */
    private void compareViews(Connection connection) throws SQLException {
        String sql =
                "SELECT count(*) FROM (SELECT id, version FROM sqlonfhir.readings WHERE critical AND part = 1) r "
                        + "FULL JOIN sqlonfhir.critical c USING (id, version) WHERE r.id IS NULL OR c.id IS NULL";
        try (PreparedStatement statement = connection.prepareStatement(sql); ResultSet row = statement.executeQuery()) {
            row.next();
            check("rows move between views at once", row.getLong(1) == 0, row.getLong(1));
        }
    }
}
